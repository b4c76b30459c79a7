"""How cases are run and judged: whatever one of them raises, the run goes on and says what it was."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from broker.conformance.cases import Case, Deviation, Late, Outcome, Skip, Verdict
from broker.conformance.lab import open_lab
from broker.conformance.pulse import Pulse, watching
from broker.conformance.reports import Terminal, to_html, to_json, to_junit
from broker.conformance.runner import Report, run_case, run_cases
from broker.conformance.target import Fixture, Target
from broker.conformance.transcript import RecordingStream, Transcript


@asynccontextmanager
async def bare_lab(transcript, attempt):
    transcript.note(f"attempt {attempt}")
    async with trio.open_nursery() as nursery:
        yield nursery


def case_that(run, name="topic/one", **options):
    return Case(name, ("WS-1",), "It must.", run, **options)


def raising(*errors):
    left = list(errors)

    async def run(nursery):
        await trio.lowlevel.checkpoint()
        if left:
            raise left.pop(0)

    return run


async def judged(run, pulse=None, **options):
    pulse = pulse or Pulse(0.05)
    (outcome,) = await run_cases([case_that(run, **options)], bare_lab, lacks=lambda case: None, pulse=pulse)
    return outcome


@pytest.mark.parametrize(
    ("error", "verdict", "message"),
    [
        (Deviation("it is wrong"), Verdict.FAIL, "it is wrong"),
        (Skip("it has none"), Verdict.SKIP, "it has none"),
        (KeyError("sid"), Verdict.FAIL, "what the peer sent has another shape: KeyError: 'sid'"),
        (
            trio.BusyResourceError("another task"),
            Verdict.ERROR,
            "the kit failed: BusyResourceError: another task",
        ),
        (RuntimeError("no"), Verdict.ERROR, "the kit failed: RuntimeError: no"),
        (
            ExceptionGroup("", [Deviation("wrong"), RuntimeError("no")]),
            Verdict.ERROR,
            "the kit failed: RuntimeError: no",
        ),
        (ExceptionGroup("", [trio.BrokenResourceError(), Deviation("wrong")]), Verdict.FAIL, "wrong"),
        (ExceptionGroup("", [ExceptionGroup("", [Skip("none")])]), Verdict.SKIP, "none"),
    ],
)
async def test_what_a_case_raises_is_its_verdict(error, verdict, message):
    outcome = await judged(raising(error))
    assert (outcome.verdict, outcome.message, outcome.attempts) == (verdict, message, 1)


async def test_an_error_of_the_kit_carries_its_place_and_the_others_run_on():
    cases = [case_that(raising(OverflowError("x")), "topic/one"), case_that(raising(), "topic/two")]
    first, second = await run_cases(cases, bare_lab, lacks=lambda case: None, pulse=Pulse(1))
    assert second.verdict is Verdict.PASS
    assert any("in run" in line for line in first.trace)
    assert first.wire[0].endswith("attempt 1")


async def test_an_error_of_a_task_beside_the_case_is_the_verdict():
    async def fails():
        raise RuntimeError("beside")

    async def run(nursery):
        nursery.start_soon(fails)
        await trio.sleep_forever()

    assert (await judged(run)).message == "the kit failed: RuntimeError: beside"


async def test_an_interrupt_ends_the_run():
    with pytest.raises(BaseExceptionGroup) as caught:
        await judged(raising(KeyboardInterrupt()))
    assert caught.group_contains(KeyboardInterrupt)


async def test_a_case_that_does_not_end_has_failed(autojump_clock):
    async def run(nursery):
        await trio.sleep_forever()

    outcome = await run_case(case_that(run), bare_lab, timeout=3)
    assert (outcome.verdict, outcome.message, outcome.late) == (Verdict.FAIL, "not done within 3 s", True)


async def test_where_nobody_watches_the_peer_what_came_late_is_tried_once_more():
    assert (await judged(raising(Late("late"), Late("late again")))).message == "late again"
    outcome = await judged(raising(OSError("refused")))
    assert (outcome.verdict, outcome.attempts) == (Verdict.PASS, 2)


class Slow(Pulse):
    """A machine that is always slow, or never."""

    def __init__(self, slow):
        super().__init__(1.0)
        self.slow = slow
        self.sees_peer = True

    def late_since(self, start):
        return self.slow

    async def calm(self, within):
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("alone", [True, False])
async def test_what_failed_on_a_slow_machine_is_tried_again(alone):
    outcome = await judged(raising(Deviation("one"), RuntimeError("two")), Slow(True), alone=alone)
    assert (outcome.verdict, outcome.attempts) == (Verdict.PASS, 3)


async def test_it_is_tried_three_times_at_most():
    outcome = await judged(raising(*[Deviation("wrong")] * 9), Slow(True))
    assert (outcome.message, outcome.attempts) == ("wrong", 3)


async def test_what_came_late_from_a_peer_that_was_quick_has_failed():
    outcome = await judged(raising(Late("late")), Slow(False))
    assert (outcome.verdict, outcome.attempts) == (Verdict.FAIL, 1)


async def test_the_pulse_knows_a_peer_that_does_not_answer(autojump_clock):
    asked = trio.Event()

    async def beat():
        asked.set()
        await trio.sleep_forever()

    async with watching(0.05, lambda pulse: pulse.watch_peer(beat)) as pulse:
        await asked.wait()
        assert pulse.sees_peer
        assert not pulse.late_since(trio.current_time())
        await trio.sleep(0.1)
        assert pulse.late_since(trio.current_time())


async def test_the_pulse_knows_a_peer_that_answers_late(autojump_clock):
    delays = [0.01, 0.3, 0.01]

    async def beat():
        await trio.sleep(delays.pop(0) if delays else 0.0)

    async with watching(0.05, lambda pulse: pulse.watch_peer(beat)) as pulse:
        start = trio.current_time()
        await pulse.calm(within=1)
        assert trio.current_time() == start
        await trio.sleep(0.5)
        assert pulse.late_since(start)
        assert not pulse.late_since(trio.current_time())


async def test_several_tasks_may_send_on_one_stream():
    left, right = trio.testing.lockstep_stream_pair()
    stream = RecordingStream(left, Transcript(), "C>", "S>")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, b"one")
        nursery.start_soon(stream.send_all, b"two")
        received = b""
        while len(received) < 6:
            received += await right.receive_some(2)
    assert sorted((received[:3], received[3:])) == [b"one", b"two"]


async def test_what_runs_beside_a_case_does_not_see_its_connections_closed():
    async def hold(stream):
        await stream.receive_some()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, hold, listeners)
        target = Target("127.0.0.1", listeners[0].socket.getsockname()[1])
        async with open_lab(Fixture(target), Transcript()) as lab:
            stream = await lab.connect()
            lab.start_soon(stream.receive_some)
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


def report_with_an_error():
    outcome = Outcome(case_that(raising()), Verdict.ERROR, "the kit failed: X: y", ["wire"], attempts=2)
    outcome.trace = ["line 1 <&>"]
    return Report("http://x/", "server", outcomes=[outcome])


def test_reports_tell_errors_of_the_kit_from_failures_of_the_peer():
    report = report_with_an_error()
    assert not report.passed
    suite = ElementTree.fromstring(to_junit(report))
    assert (suite.get("errors"), suite.get("failures")) == ("1", "0")
    assert "line 1 <&>" in (suite.find("testcase/error").text or "")
    assert b'"trace": [' in to_json(report)
    assert "line 1 &lt;&amp;&gt;" in to_html(report)
    out = io.StringIO()
    terminal = Terminal(out, live=True)
    terminal.begin(1)
    terminal.progress(report.outcomes[0])
    terminal.finish(report)
    assert "1 errors of the kit" in out.getvalue()
    assert "ERROR  WS-1" in out.getvalue()
    assert "| line 1 <&>" in out.getvalue()


def test_a_clause_that_nothing_tried_is_not_said_to_hold():
    ends = [("EIO-HS-1", Verdict.PASS), ("EIO-HS-2", Verdict.FAIL), ("EIO-HS-3", Verdict.SKIP)]
    outcomes = [
        Outcome(replace(case_that(raising()), clauses=(clause,)), verdict, "why") for clause, verdict in ends
    ]
    out = io.StringIO()
    Terminal(out, live=False).finish(Report("http://x/", "server", outcomes=outcomes))
    assert "1 of 3 clauses held, 1 not tried; failing: EIO-HS-2\n" in out.getvalue()
