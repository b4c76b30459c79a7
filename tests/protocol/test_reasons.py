"""The tables of refusals, violations and reasons."""

from __future__ import annotations

import pytest

from protocol import CloseCode, DisconnectReason, Refusal, Refused, Violation

REFERENCE = {
    0: (400, "Transport unknown"),
    1: (400, "Session ID unknown"),
    2: (400, "Bad handshake method"),
    3: (400, "Bad request"),
    4: (403, "Forbidden"),
    5: (400, "Unsupported protocol version"),
}


def test_codes_of_the_reference_are_kept() -> None:
    rows = {refusal.code: (refusal.status, refusal.message) for refusal in Refusal}
    assert len(rows) == len(Refusal)
    assert {code: row for code, row in rows.items() if code < 100} == REFERENCE


def test_edge_10_message_of_the_application() -> None:
    assert Refused(Refusal.FORBIDDEN, message="Thou shall not pass").body == {
        "code": 4,
        "message": "Thou shall not pass",
    }
    assert Refused(Refusal.FORBIDDEN, "why").body == {"code": 4, "message": "Forbidden", "detail": "why"}


@pytest.mark.parametrize("violation", Violation)
def test_violations_have_a_text_that_fits_and_a_legal_code(violation: Violation) -> None:
    assert 0 < len(violation.text.encode()) <= 123
    assert violation.close_code in CloseCode
    assert violation.reason in DisconnectReason


def test_no_two_violations_are_one() -> None:
    assert len(Violation.__members__) == len(Violation) == len({violation.text for violation in Violation})


@pytest.mark.parametrize("reason", DisconnectReason)
def test_reasons(reason: DisconnectReason) -> None:
    assert reason.close_code in CloseCode
    assert reason.retryable is not reason.endswith("namespace disconnect")
