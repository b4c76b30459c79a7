"""Compare two ways for processes to share a port: one inherited socket, or a socket each (SO_REUSEPORT).

    python -m bench.cluster.accepting

For each way: how the connections of a burst, and of a slow stream, spread over the processes, and how many
connections per second they take.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import trio

BACKLOG = 4_096
BATCH = 64
PROCESSES = 2


def listening(port: int) -> socket.socket:
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    opened.bind(("127.0.0.1", port))
    opened.listen(BACKLOG)
    opened.setblocking(False)
    return opened


async def accept(own: socket.socket, number: int) -> None:
    """Accept as `broker.server.listener` does, and send one byte that says who it was."""
    held = []
    while True:
        await trio.lowlevel.wait_readable(own)
        try:
            for _ in range(BATCH):
                accepted, _ = own.accept()
                accepted.send(bytes([number]))
                held.append(accepted)
                if len(held) > BACKLOG:
                    held.pop(0).close()
        except BlockingIOError:
            continue


@contextmanager
def processes(shared: bool) -> Iterator[int]:
    """Run the accepting processes; each is busy for nobody else."""
    first = listening(0)
    port = first.getsockname()[1]
    sockets = [first] + [first if shared else listening(port) for _ in range(PROCESSES - 1)]
    started = []
    for number, own in enumerate(sockets):
        child = os.fork()
        if not child:
            trio.run(accept, own, number)
            sys.exit()
        started.append(child)
    for own in sockets:
        own.close()
    try:
        yield port
    finally:
        for child in started:
            os.kill(child, 9)
            os.waitpid(child, 0)


def connect(port: int, count: int, pause: float) -> tuple[list[int], float]:
    """Open connections one after another and keep them; return who took how many, and the time."""
    begun = time.perf_counter()
    opened = []
    for _ in range(count):
        opened.append(socket.create_connection(("127.0.0.1", port)))
        if pause:
            time.sleep(pause)
    taken = [0] * PROCESSES
    for one in opened:
        taken[one.recv(1)[0]] += 1
    passed = time.perf_counter() - begun
    for one in opened:
        one.close()
    return taken, passed


def main() -> None:
    for shared in (True, False):
        name = "one socket, inherited" if shared else "a socket each, SO_REUSEPORT"
        for round_number in range(3):
            with processes(shared) as port:
                time.sleep(0.3)
                burst, seconds = connect(port, 2_000, 0)
                slow, _ = connect(port, 500, 0.002)
            print(f"{name}, {round_number}: burst {burst} in {seconds:.2f} s; slow stream {slow}")


if __name__ == "__main__":
    main()
