"""The guide's program runs as it stands there, and its table names every option."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import trio

from broker.client.options import ClientOptions
from tests.client.servers import DEADLINE, our_server

GUIDE = (Path(__file__).parents[2] / "docs/client.md").read_text("utf-8")


async def test_the_program_of_the_guide(capsys):
    [program] = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(program, "docs/client.md", "exec"), names)
    with trio.fail_after(DEADLINE):
        async with our_server() as url:
            await names["main"](url)
    assert capsys.readouterr().out.splitlines() == ["42", "said ('hello', b'\\x00\\x01') /"]


def test_the_guide_names_every_option():
    table = GUIDE.partition("## Options")[2].partition("## Coming back")[0]
    options = {field.name for field in attrs.fields(ClientOptions)} - {"url"}
    assert {name for name in options if not re.search(rf"\b{name}\b", table)} == set()
