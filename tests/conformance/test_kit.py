"""The kit against our broker and some of its mutants, its reports, and the clauses it covers."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.cli import main
from broker.conformance import Case, Outcome, Report, Skip, Verdict, judge_server, load_clauses
from broker.conformance.clauses import NOT_OBSERVABLE
from broker.conformance.client_role import judge_client, load_situations
from broker.conformance.reports import to_html, to_json, to_junit
from broker.conformance.server_role import load_cases
from broker.conformance.target import parse_url
from protocol.vectors import KINDS, load_vectors
from tests.conformance.clients.ours import main as our_client
from tests.conformance.mutants import MUTANTS
from tests.conformance.mutation import Mutant
from tests.conformance.run import CLIENTS, catch
from tests.conformance.servers.ours import serving

ROOT = Path(__file__).resolve().parent.parent.parent
SPEC = (ROOT / "SPEC.md").read_text(encoding="utf-8")
DEFINED = re.findall(r"^\*\*([A-Z-]+-\d+)\*\* \(", SPEC, re.MULTILINE)
QUICK_MUTANTS = ("wrong-code-for-unknown-session", "noop-missing", "socket-id-is-session-id")


def covered() -> set[str]:
    vectors = {vector.clause for kind in KINDS for vector in load_vectors(kind)}
    cases = [*load_cases().cases.values(), *load_situations().cases.values()]
    return vectors | {clause for case in cases for clause in case.clauses}


def test_every_clause_has_a_vector_a_case_or_a_reason():
    assert covered() | set(NOT_OBSERVABLE) == set(DEFINED)
    assert covered() & set(NOT_OBSERVABLE) == set()


def test_there_are_hundreds_of_cases_and_each_has_a_sentence():
    cases = [*load_cases().cases.values(), *load_situations().cases.values()]
    assert len(cases) > 800
    assert [case.id for case in cases if not case.title.endswith(".") or "\n\n" in case.title] == []


def test_clauses_of_the_reports_are_those_of_the_specification():
    assert list(load_clauses()) == DEFINED


async def test_our_listener_conforms():
    async with serving("native") as url:
        report = await judge_server(parse_url(url))
    assert [(one.case.id, one.message) for one in report.outcomes if one.verdict is Verdict.FAIL] == []
    assert report.count(Verdict.SKIP) == 0
    assert report.count(Verdict.PASS) == len(load_cases().cases)


async def test_what_the_fixture_lacks_is_skipped_with_the_reason():
    async with serving("websockets") as url:
        report = await judge_server(parse_url(url), only=["polling/", "namespace/", "drain/", "http/"])
    skipped = Counter(one.message for one in report.outcomes if one.verdict is Verdict.SKIP)
    assert report.passed
    assert skipped["the fixture has no polling"] > 20
    assert skipped["the fixture lacks drain"] == 6
    assert skipped["decided by the application's WebSocket server"] > 5


@pytest.mark.parametrize("name", QUICK_MUTANTS)
async def test_a_fault_is_caught_and_named(name):
    found, text = await catch(name)
    assert found, text


def test_faults_are_of_many_kinds():
    assert len(MUTANTS) >= 70
    assert {mutant.clause for mutant in MUTANTS.values()} <= set(DEFINED)


@pytest.mark.parametrize("name", [name for name, fault in MUTANTS.items() if isinstance(fault, Mutant)])
def test_a_fault_finds_its_place_in_the_broker(name):
    MUTANTS[name].find()


async def test_our_client_conforms():
    report = await judge_client("127.0.0.1", 0, client=our_client)
    assert [(one.case.id, one.message) for one in report.outcomes if one.verdict is not Verdict.PASS] == []
    assert len(report.outcomes) == len(load_situations().cases)


async def test_a_client_that_cannot_start_is_skipped_with_what_it_said():
    command = "sh -c 'echo no such module >&2; exit 3'"
    report = await judge_client("127.0.0.1", 0, command=command, only=["handshake/request/polling"])
    assert [one.verdict for one in report.outcomes] == [Verdict.SKIP]
    assert report.outcomes[0].message == "the client's program ended with code 3: no such module"
    assert not report.passed


async def nothing(lab: object) -> None:
    raise Skip


def some_report() -> Report:
    case = Case("topic/one <&>", ("WS-1", "EIO-HS-1"), "It must.", nothing)
    outcomes = [
        Outcome(case, Verdict.FAIL, 'not "it" <b>', ["  1.0 ms  #1 C> GET \\x00"], 0.5),
        Outcome(Case("topic/two", ("WS-1",), "It may.", nothing), Verdict.PASS, "", [], 0.25, 2),
        Outcome(Case("topic/three", ("WS-2",), "It can.", nothing), Verdict.SKIP, "the fixture lacks x"),
    ]
    when = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    return Report("http://x/", "server", when, 1.5, outcomes, ["a note"])


def test_json_report():
    document = json.loads(to_json(some_report()))
    assert document["counts"] == {"pass": 1, "fail": 1, "skip": 1, "error": 0}
    first = document["cases"][0]
    assert first["clauses"] == ["WS-1", "EIO-HS-1"]
    assert first["wire"] == ["  1.0 ms  #1 C> GET \\x00"]


def test_junit_report():
    suite = ElementTree.fromstring(to_junit(some_report()))
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == 'not "it" <b>'
    assert "#1 C> GET" in (failure.text or "")


def test_page_is_self_contained_and_escaped():
    page = to_html(some_report())
    assert 'id="WS-1"' in page
    assert "not &quot;it&quot; &lt;b&gt;" in page
    assert "<b>1</b> failed" in page
    assert re.findall(r"src=|href=[^\"]|href=\"[^#]", page) == []
    assert "(at attempt 2)" in page


def test_page_shows_the_wire_once_and_links_to_it():
    page = to_html(some_report())
    row = '<tr class="client"><td>1.0 ms</td><td>#1</td><td>client</td><td>GET \\x00</td></tr>'
    assert page.count(row) == 1
    assert page.index('id="WS-1"') < page.index(row)
    assert 'what was on the wire: see <a href="#WS-1">WS-1</a>' in page
    assert '<a class="fail" href="#WS-1"' in page


def test_command_line_refuses_both_roles_and_none(capsys):
    assert main(["conformance"]) == 2
    assert main(["conformance", "http://x", "--listen", "127.0.0.1:0"]) == 2
    assert main(["conformance", "http://127.0.0.1:1"]) == 2
    assert "nothing to judge" in capsys.readouterr().err


def test_command_line_writes_reports(tmp_path, capsys):
    command = CLIENTS["ours"] + " {url} {transports}"
    arguments = ["conformance", "--listen", "127.0.0.1:0", "--client", command]
    arguments += ["--only", "ack/answer/websocket", "--json", str(tmp_path / "report.json")]
    arguments += ["--html", str(tmp_path / "report.html"), "--junit", str(tmp_path / "report.xml")]
    assert main(arguments) == 0
    assert "1 passed, 0 failed, 0 skipped" in capsys.readouterr().out
    assert json.loads((tmp_path / "report.json").read_bytes())["counts"]["pass"] == 1
    assert (tmp_path / "report.html").exists()
    assert (tmp_path / "report.xml").exists()
