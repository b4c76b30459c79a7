"""Measures the figures of docs/reliability.md: `python -m bench.hold`."""
