"""Print the counts of a test run as its closing line, from the JUnit file that pytest wrote.

Usage: closing_line.py FILE. Exit codes: 0 printed, 1 there is no such file: pytest did not come to its end.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree


def closing_line(report: Path) -> str:
    """Return `N passed, N failed, N skipped`; errors in fixtures count as failed."""
    suites = list(ElementTree.parse(report).getroot().iter("testsuite"))

    def count(*names: str) -> int:
        return sum(int(suite.get(name, "0")) for suite in suites for name in names)

    failed, skipped = count("failures", "errors"), count("skipped")
    return f"{max(0, count('tests') - failed - skipped)} passed, {failed} failed, {skipped} skipped"


def main() -> int:
    """Print the closing line of the file that the one argument names."""
    report = Path(sys.argv[1])
    if not report.is_file():
        return 1
    print(closing_line(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
