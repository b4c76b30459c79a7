"""The cases for servers, by topic."""

from .catalogue import CASES, load_cases

__all__ = ["CASES", "load_cases"]
