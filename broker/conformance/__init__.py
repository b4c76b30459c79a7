"""The conformance kit: tells an implementation of SPEC.md, clause by clause, where it deviates.

It judges servers (`python -m broker conformance URL`) and clients (`python -m broker conformance --listen
HOST:PORT`) from outside, by what is on the wire. It needs nothing of the broker but `protocol`.
"""

from .cases import Case, Deviation, Outcome, Skip, Verdict
from .clauses import Clause, load_clauses
from .runner import Report, judge_server

__all__ = [
    "Case",
    "Clause",
    "Deviation",
    "Outcome",
    "Report",
    "Skip",
    "Verdict",
    "judge_server",
    "load_clauses",
]
