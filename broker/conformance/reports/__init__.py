"""The forms of a report: terminal, JSON, JUnit XML, and a page."""

from .as_html import to_html
from .as_json import to_json
from .as_junit import to_junit
from .terminal import Terminal

__all__ = ["Terminal", "to_html", "to_json", "to_junit"]
