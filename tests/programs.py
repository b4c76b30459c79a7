"""Programs that tests start: each of them ends within a bound, whatever it makes of a signal."""

from __future__ import annotations

from functools import partial

import trio

from broker.conformance.client_role.lab import end_program

run_program = partial(trio.run_process, deliver_cancel=end_program)
"""`trio.run_process`; cancelled it asks the program to end, and kills it when it does not."""
