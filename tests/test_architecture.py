"""The rules about the source itself: sizes, names, docstrings, the README's commands, the public names."""

import ast
import functools
import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(path for package in ("broker", "protocol") for path in (ROOT / package).rglob("*.py"))
MAX_LINES = 400
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "core", "misc"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@functools.cache
def readme() -> str:
    return (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_short_and_says_what_it_does(path):
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= MAX_LINES, "is there a second idea in it that wants its own module?"
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring, "a module opens with one sentence that says the one thing it does"
    assert docstring.partition("\n\n")[0].strip().endswith((".", ":")), "a sentence ends with a full stop"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_has_a_name_that_says_something(path):
    assert not VAGUE_NAMES & {part.strip("_") for part in path.relative_to(ROOT).with_suffix("").parts}


def test_the_readme_names_commands_that_exist():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):(?!=)", makefile, re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", readme(), re.MULTILINE))
    assert {"demo", "test"} <= named <= targets


def test_the_readme_names_command_line_commands_that_exist():
    from broker.cli.arguments import build_parser

    lines = re.findall(r"^python -m broker (.+)$", readme(), re.MULTILINE)
    assert len(lines) >= 3
    for line in lines:
        assert build_parser().parse_args(line.split()).command == line.split()[0]


def test_the_example_of_the_readme_is_python():
    for block in re.findall(r"```python\n(.*?)```", readme(), re.DOTALL):
        ast.parse(block)


def test_the_readme_links_to_files_that_exist():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", readme())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("package", ["broker", "protocol"])
def test_public_names_exist_and_are_documented(package):
    module = importlib.import_module(package)
    assert module.__all__
    undocumented = [
        name
        for name in module.__all__
        # Constants and type aliases are documented where they are defined.
        if inspect.isclass(value := getattr(module, name)) or inspect.isfunction(value)
        if not (value.__doc__ or "").strip()
    ]
    assert undocumented == []
