"""What the chat answers to pages that do not behave, asked with the stock client by hand."""

from __future__ import annotations

import json
from typing import Any

from .test_chat import House, house, pytestmark

__all__ = ["house", "pytestmark"]

HELPERS = """
window.open_ = async () => {
  const socket = io({ forceNew: true });
  await new Promise((resolve) => socket.on("connect", resolve));
  return socket;
};
window.ask = (socket, ...args) => socket.timeout(9000).emitWithAck(...args);
"""


REFUSED: list[tuple[str, str, list[Any]]] = [
    ("already_joined", "join", ["Eve", "seat", "Lobby"]),
    ("bad_room", "switch", ["x" * 25]),
    ("bad_room", "switch", [" \t "]),
    ("bad_room", "switch", ["turned \u202eround"]),
    ("wrong_room", "message", ["Kitchen", "hello", "k"]),
    ("bad_text", "message", ["Lobby", "  \n ", "k"]),
    ("bad_text", "message", ["Lobby", "x" * 1001, "k"]),
    ("bad_key", "message", ["Lobby", "hello", ""]),
    ("bad_key", "message", ["Lobby", "hello", "k" * 65]),
    ("offline", "private", ["Nobody", "hello", "k"]),
    ("to_yourself", "private", ["ADA", "hello", "k"]),
    ("bad_name", "private", ["", "hello", "k"]),
    ("invalid_arguments", "message", ["Lobby", {"not": "text"}, "k"]),
    ("wrong_arity", "switch", []),
]


async def run(house: House, script: str) -> Any:
    """Run the body of an async function in a page that has not joined, and return its result."""
    page = await house.browser.open_page(house.url)
    await page.evaluate(f"void (() => {{{HELPERS}}})()")
    return await page.evaluate(f"(async () => {{{script}}})()")


async def test_a_seat_takes_its_name_back(house: House) -> None:
    answer = await run(
        house,
        """
        const [first, second, thief] = [await open_(), await open_(), await open_()];
        const gone = new Promise((resolve) => first.on("disconnect", resolve));
        await ask(first, "join", "Ada", "secret", "Lobby");
        const stolen = await ask(thief, "join", "ada", "guess", "Lobby");
        const back = await ask(second, "join", "Ada", "secret", "Lobby");
        await gone;
        const said = await ask(second, "message", "Lobby", "still me", "k1");
        return { stolen: stolen.error.code, people: back.people, by: said.name };
        """,
    )
    assert answer == {"stolen": "name_taken", "people": {"Lobby": ["Ada"]}, "by": "Ada"}


async def test_the_same_key_is_said_once(house: House) -> None:
    answer = await run(
        house,
        """
        const [ada, bob] = [await open_(), await open_()];
        await ask(ada, "join", "Ada", "a", "Lobby");
        await ask(bob, "join", "Bob", "b", "Lobby");
        const heard = [];
        bob.on("message", (line) => heard.push(line.text));
        const first = await ask(ada, "message", "Lobby", "once", "k1");
        const again = await ask(ada, "message", "Lobby", "once", "k1");
        await ask(ada, "message", "Lobby", "last", "k2");
        while (!heard.includes("last")) await new Promise((resolve) => setTimeout(resolve, 5));
        return { same: first.id === again.id, heard };
        """,
    )
    assert answer == {"same": True, "heard": ["once", "last"]}


async def test_history_is_bounded(house: House) -> None:
    answer = await run(
        house,
        """
        const ada = await open_();
        await ask(ada, "join", "Ada", "a", "Lobby");
        for (let n = 0; n < 60; n++) await ask(ada, "message", "Lobby", `line ${n}`, `k${n}`);
        const { history } = await ask(ada, "switch", "Lobby");
        return [history.length, history[0].text, history.at(-1).text];
        """,
    )
    assert answer == [50, "line 10", "line 59"]


async def test_rooms_are_bounded_and_empty_ones_give_way(house: House) -> None:
    answer = await run(
        house,
        """
        const sockets = [];
        for (let n = 0; n < 24; n++) {
          sockets.push(await open_());
          await ask(sockets[n], "join", `P${n}`, "s", n ? `Room ${n}` : "Lobby");
        }
        const full = await ask(sockets[0], "switch", "One more");
        await ask(sockets[5], "switch", "Lobby");
        const fits = await ask(sockets[0], "switch", "One more");
        return [full.error.code, fits.room, Object.keys(fits.people).includes("Room 5")];
        """,
    )
    assert answer == ["rooms_full", "One more", False]


async def test_refusals_have_stable_codes(house: House) -> None:
    answers = await run(
        house,
        f"""
        const ada = await open_();
        await ask(ada, "join", "Ada", "seat", "Lobby");
        const answers = [];
        for (const [_, event, args] of {json.dumps(REFUSED)}) {{
          answers.push(await ask(ada, event, ...args));
        }}
        return answers;
        """,
    )
    for (code, event, _), answer in zip(REFUSED, answers, strict=True):
        assert answer["error"]["code"] == code, event
        assert answer["error"]["message"]


async def test_nothing_goes_before_joining(house: House) -> None:
    answer = await run(
        house,
        """
        const ada = await open_();
        const calls = [["switch", "Lobby"], ["message", "Lobby", "x", "k"], ["private", "B", "x", "k"]];
        const codes = [];
        for (const call of calls) codes.push((await ask(ada, ...call)).error.code);
        codes.push((await ask(ada, "join", "", "seat", "Lobby")).error.code);
        codes.push((await ask(ada, "join", "x".repeat(25), "seat", "Lobby")).error.code);
        return codes;
        """,
    )
    assert answer == ["not_joined", "not_joined", "not_joined", "bad_name", "bad_name"]
