"""SPEC.md says what the code says: rendered tables, clause ids, names, grammar, and true examples."""

import ast
import importlib.util
import json
import re
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

from protocol import DisconnectReason, Limits, Refusal, Violation
from protocol.engineio import packet as engine_packet
from protocol.engineio.payload import decode_payload
from protocol.socketio.decoder import NEED_ATTACHMENTS, Decoder

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "protocol" / "vectors" / "schema.json"
TEXT = (ROOT / "SPEC.md").read_text(encoding="utf-8")

CLAUSE = r"(?:GEN|WS|LIM|FLOW|DRAIN|SEC|(?:EIO|SIO)-[A-Z]+)-\d+"
DEFINED = re.findall(rf"^\*\*({CLAUSE})\*\* \(", TEXT, re.MULTILINE)
MAX_PAYLOAD = 1_000_000

CORE_RULES = set(
    "ALPHA BIT CHAR CR CRLF CTL DIGIT DQUOTE HEXDIG HTAB LF LWSP OCTET SP VCHAR WSP".lower().split()
)
ABNF_TOKENS = re.compile(
    r"""
    (?P<comment>;[^\n]*)
    | (?P<define>[A-Za-z][A-Za-z0-9-]*[ \t]*=/?)
    | (?P<name>[A-Za-z][A-Za-z0-9-]*)
    | (?P<string>(?:%[si])?"[\x20\x21\x23-\x7e]*")
    | (?P<number>%x[0-9A-Fa-f]+(?:(?:\.[0-9A-Fa-f]+)+|-[0-9A-Fa-f]+)?)
    | (?P<repeat>\d*\*\d*|\d+)
    | (?P<open>[(\[]) | (?P<close>[)\]]) | (?P<or>/) | (?P<space>\s+)
    """,
    re.VERBOSE,
)
OPERANDS = {"name", "string", "number", "open"}
NEXT_LINE_IS_NOT_INDENTED = re.compile(r"\n(?=\S)")


def load_renderer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render_spec", ROOT / "tools" / "render_spec.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def docstrings(path: Path) -> list[str]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [ast.get_docstring(node) or "" for node in nodes if isinstance(node, documented)]


def cited_in(text: str) -> set[str]:
    """The clauses cited in a text; `WS-1 to WS-6` cites all between."""
    cited = set(re.findall(CLAUSE, text))
    for group, first, last in re.findall(r"\b([A-Z]+(?:-[A-Z]+)?)-(\d+) to \1-(\d+)", text):
        cited |= {f"{group}-{number}" for number in range(int(first), int(last) + 1)}
    return cited


def vector_clauses(value: object) -> list[str]:
    if isinstance(value, list):
        return [clause for item in value for clause in vector_clauses(item)]
    if not isinstance(value, dict):
        return []
    named: list[str] = []
    for key, item in value.items():
        if key in ("clause", "clauses"):
            named += [item] if isinstance(item, str) else item
        else:
            named += vector_clauses(item)
    return named


def fenced(language: str) -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return [block for written_in, block in blocks if written_in == language]


def tokenize(grammar: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    at = 0
    while at < len(grammar):
        match = ABNF_TOKENS.match(grammar, at)
        assert match, f"not ABNF: {grammar[at : at + 40]!r}"
        assert match.lastgroup is not None
        if match.lastgroup not in ("comment", "space"):
            tokens.append((match.lastgroup, match[0]))
        at = match.end()
    return tokens


def check_rule(tokens: list[tuple[str, str]]) -> None:
    """Brackets close what they open, and every operator has its operands."""
    brackets: list[str] = []
    previous = "define"
    for kind, text in tokens:
        if kind in ("or", "close"):
            assert previous in ("name", "string", "number", "close"), f"{text} after {previous}"
        if previous == "repeat":
            assert kind in OPERANDS, f"nothing to repeat before {text}"
        if kind == "open":
            brackets.append(")" if text == "(" else "]")
        elif kind == "close":
            assert brackets, f"{text} closes nothing"
            assert brackets.pop() == text
        previous = kind
    assert not brackets
    assert previous in ("name", "string", "number", "close"), "the rule ends in the middle"


def test_tables_and_diagrams_are_those_of_the_code() -> None:
    assert load_renderer().render(TEXT) == TEXT


def test_renderer_demands_each_marker_once() -> None:
    renderer = load_renderer()
    with pytest.raises(ValueError, match="markers of limits"):
        renderer.render(TEXT.replace("<!-- begin:limits -->", ""))


def test_clause_ids_are_unique() -> None:
    assert len(DEFINED) > 120
    assert len(DEFINED) == len(set(DEFINED))


def test_words_of_requirement_stand_in_clauses_and_in_capitals() -> None:
    """What binds has an id, so that a vector or a case can name it. Spec: GEN-1."""
    clause = ""
    found: set[str] = set()
    for line in re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL).splitlines():
        begun = re.match(rf"\*\*({CLAUSE})\*\* \(", line)
        clause = begun[1] if begun else "" if line.startswith("#") else clause
        words = set(re.findall(r"\b(?:MUST|SHOULD|MAY|SHALL|REQUIRED|RECOMMENDED|OPTIONAL)\b", line))
        assert clause or not words, f"outside of a clause: {line}"
        found |= words
        if not line.startswith("|"):
            assert not re.search(r"\b(?:must|should|shall)\b", line), f"not in capitals: {line}"
    assert found == {"MUST", "SHOULD", "MAY"}


def test_clauses_cited_inside_the_text_exist() -> None:
    assert cited_in(TEXT) <= set(DEFINED)


@pytest.mark.parametrize("package", ["protocol", "broker"])
def test_clauses_cited_in_docstrings_exist(package: str) -> None:
    cited = {
        clause
        for path in sorted((ROOT / package).rglob("*.py"))
        for docstring in docstrings(path)
        for clause in cited_in(docstring)
    }
    assert cited <= set(DEFINED)
    assert cited or package == "broker"


def test_what_docstrings_cite_looks_like_a_clause() -> None:
    """A mistyped group, as in `EOI-HS-1`, would pass the test above unseen."""
    for package in ("protocol", "broker"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for docstring in docstrings(path):
                for citation in re.findall(r"Spec: ([^\n]*)", docstring):
                    words = re.findall(r"[A-Z]+(?:-[A-Z]+)*-\d+", citation)
                    assert set(words) <= set(DEFINED), f"{path}: {citation}"


def test_clauses_of_vectors_exist() -> None:
    for path in sorted(set((ROOT / "protocol" / "vectors").glob("*.json")) - {SCHEMA}):
        named = set(vector_clauses(json.loads(path.read_text(encoding="utf-8"))))
        assert named <= set(DEFINED), path.name


@pytest.mark.parametrize(
    "name",
    [
        *(row.name for row in Refusal),
        *(row.name for row in Violation),
        *(row.name for row in DisconnectReason),
        *(row.value for row in DisconnectReason),
        *(field.name for field in fields(Limits)),
    ],
)
def test_every_name_of_the_tables_occurs(name: str) -> None:
    assert f"`{name}`" in TEXT


def test_every_refusal_names_its_clauses() -> None:
    renderer = load_renderer()
    for refusal in Refusal:
        assert cited_in(renderer.REFUSAL_CLAUSES[refusal])


def test_grammar_is_well_formed() -> None:
    rules = [rule for rule in NEXT_LINE_IS_NOT_INDENTED.split("\n".join(fenced("abnf"))) if tokenize(rule)]
    defined: set[str] = set()
    referenced: set[str] = set()
    for rule in rules:
        (kind, head), *body = tokenize(rule)
        assert kind == "define", f"a line that is no rule: {rule!r}"
        name = head.rstrip("=/ \t").lower()
        assert name not in defined, f"{name} is defined twice"
        defined.add(name)
        check_rule(body)
        referenced |= {text.lower() for token, text in body if token == "name"}
    assert defined
    assert referenced - CORE_RULES <= defined


@pytest.mark.parametrize(
    "rule", ["a = (b", "a = b )", "a = / b", "a = b /", "a = 2* / b", "a = ( b ]", "a = b ( / c )"]
)
def test_grammar_check_sees_a_malformed_rule(rule: str) -> None:
    with pytest.raises(AssertionError):
        check_rule(tokenize(rule)[1:])


def test_lengths_of_the_http_examples_are_true() -> None:
    checked = 0
    for block in fenced(""):
        for length, body in re.findall(r"Content-Length: (\d+)\n\n *([^\n]+)\n", block):
            assert len(body.replace("<1e>", "\x1e").encode()) == int(length), body
            checked += 1
    assert checked == 5


def test_bodies_and_messages_of_the_example_are_packets() -> None:
    example = TEXT.partition("## 3. ")[2].partition("## 4. ")[0]
    bodies = re.findall(r"\n\n   (\d[^\n]*)\n", example)
    messages = [
        line.split("   ")[0].strip() for line in re.findall(r"^[CS]> text (.*)$", example, re.MULTILINE)
    ]
    assert bodies
    assert messages
    decoder = Decoder(Limits(), MAX_PAYLOAD)
    for body in [*bodies, *messages]:
        packets, violation = decode_payload(body.replace("<1e>", "\x1e").encode(), Limits())
        assert violation is None
        for packet in packets:
            if packet.type is not engine_packet.PacketType.MESSAGE:
                continue
            decoded = decoder.feed_text(packet.data)
            assert not isinstance(decoded, Violation), body
            if decoded is NEED_ATTACHMENTS:
                assert not isinstance(decoder.feed_binary(bytes((1, 2, 3, 4))), Violation)
