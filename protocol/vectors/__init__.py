"""The test vectors of SPEC.md: what goes in, what must come out, as JSON for every language."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal, TypeAlias, get_args

import orjson

Kind: TypeAlias = Literal[
    "encode",
    "decode",
    "refuse",
    "payload",
    "frames",
    "handshake",
    "upgrade",
    "namespace",
    "sequence",
    "msgpack",
]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Vector:
    """One test vector; schema.json says which keys `given` and `expect` have for each kind.

    Attributes:
        id: Its name, unique among all: the kind, a slash, a phrase.
        kind: What is tested.
        clause: The clause of SPEC.md that it belongs to.
        given: What goes in.
        expect: What must come out.
    """

    id: str
    kind: Kind
    clause: str
    given: dict[str, Any]
    expect: dict[str, Any]


def load_vectors(kind: Kind) -> list[Vector]:
    """Read all vectors of one kind, in the order of the file."""
    document = orjson.loads(files(__name__).joinpath(f"{kind}.json").read_bytes())
    return [Vector(kind=kind, **vector) for vector in document["vectors"]]


def to_bytes(value: Any) -> bytes:
    """Build the bytes that a vector describes: text, `{"hex"}`, `{"repeat", "times"}` or `{"join"}`."""
    if isinstance(value, str):
        return value.encode()
    if "hex" in value:
        return bytes.fromhex(value["hex"])
    if "repeat" in value:
        return to_bytes(value["repeat"]) * int(value["times"])
    return b"".join(map(to_bytes, value["join"]))


def to_data(value: Any) -> Any:
    """Build packet data from its form in a vector, where `{"$hex": "..."}` stands for bytes."""
    if isinstance(value, list):
        return [to_data(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"$hex"}:
            return bytes.fromhex(value["$hex"])
        return {key: to_data(item) for key, item in value.items()}
    return value


def load_bus_vectors(form: str) -> list[dict[str, Any]]:
    """Read the messages of one form that JavaScript nodes have sent; README.md says which forms there are."""
    document = orjson.loads(files(__name__).joinpath("bus", f"{form}.json").read_bytes())
    vectors: list[dict[str, Any]] = document["vectors"]
    return vectors
