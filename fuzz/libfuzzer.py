"""Run one target under atheris in this process: `python -m fuzz.libfuzzer json_text 60`."""

from __future__ import annotations

import sys

import atheris

# Coverage needs the parsers to be instrumented before anybody imports them.
with atheris.instrument_imports(include=["protocol", "fuzz", "wsproto", "h11"]):
    from fuzz.targets import TARGETS


def main() -> None:
    """Fuzz until the time is over or something is found; does not return."""
    name, seconds = sys.argv[1:]
    arguments = [
        sys.argv[0],
        f"-max_total_time={max(1, int(float(seconds)))}",  # 0 would be without end
        "-timeout=20",
        "-max_len=4096",
        "-print_final_stats=1",
    ]
    atheris.Setup(arguments, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
