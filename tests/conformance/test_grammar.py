"""The grammar of SPEC.md, read by a parser generator, accepts what the vectors accept."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from abnf import ParseError, Rule

from protocol.vectors import Vector, load_vectors, to_bytes

SPEC = (Path(__file__).resolve().parent.parent.parent / "SPEC.md").read_text(encoding="utf-8")


class Grammar(Rule):
    """The rules of appendix A."""


def load() -> None:
    blocks = re.findall(r"^```abnf\n(.*?)^```$", SPEC, re.MULTILINE | re.DOTALL)
    text = "\n".join(blocks)
    lines = [re.sub(r"\s*;[^\"]*$", "", line) for line in text.split("\n")]
    rules = re.split(r"\n(?=\S)", "\n".join(line for line in lines if line.strip()))
    for rule in rules:
        Grammar.create(" ".join(rule.split()))


load()


def accepts(rule: str, data: bytes) -> bool:
    # The grammar is over bytes; the parser over characters: one for each byte.
    try:
        Grammar(rule).parse_all(data.decode("latin-1"))
    except ParseError:
        return False
    return True


def small(kind: str) -> list[Vector]:
    vectors = load_vectors(kind)  # type: ignore[arg-type]
    return [vector for vector in vectors if "times" not in str(vector.given) and len(str(vector.given)) < 400]


@pytest.mark.parametrize("vector", small("decode"), ids=lambda vector: vector.id)
def test_what_is_decoded_is_in_the_grammar(vector: Vector) -> None:
    assert accepts("socket-packet", to_bytes(vector.given["text"]))


@pytest.mark.parametrize("vector", small("encode"), ids=lambda vector: vector.id)
def test_what_is_encoded_is_in_the_grammar(vector: Vector) -> None:
    assert accepts("socket-packet", to_bytes(vector.expect["text"]))


@pytest.mark.parametrize(
    "vector",
    [vector for vector in small("payload") if vector.expect["refused"] is None],
    ids=lambda vector: vector.id,
)
def test_payloads_are_in_the_grammar(vector: Vector) -> None:
    assert accepts("payload", to_bytes(vector.given["body"]))


# Of the violations, those that a grammar can see: it knows no bounds and no matching of indices.
GRAMMATICAL = {"UNKNOWN_TYPE", "BAD_TEXT", "BAD_ACK_ID"}


@pytest.mark.parametrize(
    "vector",
    [vector for vector in small("refuse") if vector.expect["violation"] in GRAMMATICAL],
    ids=lambda vector: vector.id,
)
def test_what_no_grammar_allows_is_not_in_it(vector: Vector) -> None:
    last = vector.given["messages"][-1]
    assert not accepts("socket-packet", to_bytes(last["text"]))
