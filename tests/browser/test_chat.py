"""Two people use the chat in real browsers, against the real broker."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
import trio

import broker.bundle

from .chromium import Browser, Page, find_chromium, open_chromium

CHROMIUM = find_chromium()
BUNDLE = Path(broker.bundle.__file__).parent / "socket.io.js"
ARTIFACTS = Path(__file__).parents[2] / "artifacts"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not on PATH"),
    pytest.mark.skipif(not BUNDLE.is_file(), reason="no bundle: run tools/fetch_client.py"),
]


@attrs.frozen
class Visitor:
    """One person at one page of the chat."""

    name: str
    page: Page

    async def enter(self) -> None:
        await self.page.type("#name", self.name)
        await self.page.press_enter()
        await self.page.wait("!document.querySelector('#chat').hidden")
        # From here on, a page that goes away is missed at once: its WebSocket closes.
        await self.page.wait("document.querySelector('#status').title === 'websocket'")

    async def write(self, text: str) -> None:
        await self.page.type("#text", text)
        await self.page.press_enter()

    async def sees(self, selector: str, text: str) -> None:
        await self.page.wait(f"{_texts(selector)}.some(text => text.includes({json.dumps(text)}))")

    async def sees_not(self, selector: str, text: str) -> None:
        await self.page.wait(f"!{_texts(selector)}.some(text => text.includes({json.dumps(text)}))")

    async def texts(self, selector: str) -> list[str]:
        found: list[str] = await self.page.evaluate(_texts(selector))
        return found

    async def switch(self, room: str) -> None:
        await self.page.click(f'#rooms [data-key="{room}"] button')
        await self.sees("#place", room)

    async def create(self, room: str) -> None:
        await self.page.type("#new-room", room)
        await self.page.press_enter()
        await self.sees("#place", room)

    async def open_private(self, name: str) -> None:
        await self.page.click(f'#people-panel [data-key="{name}"] button')
        await self.sees("#place", name)


def _texts(selector: str) -> str:
    return (
        f"[...document.querySelectorAll({json.dumps(selector)})]"
        ".filter(node => node.checkVisibility({visibilityProperty: true})).map(node => node.innerText)"
    )


@attrs.frozen
class House:
    """The running chat, and the browser to visit it with."""

    browser: Browser
    url: str

    async def visit(self, name: str) -> Visitor:
        visitor = Visitor(name, await self.browser.open_page(self.url))
        await visitor.enter()
        return visitor


@pytest.fixture
async def house(nursery: trio.Nursery) -> AsyncIterator[House]:
    from broker.demo import serve_demo

    assert CHROMIUM is not None
    server = await nursery.start(serve_demo, "127.0.0.1", 0)
    async with open_chromium(CHROMIUM) as browser:
        yield House(browser, server.url)


async def test_messages_go_both_ways_once(house: House) -> None:
    ada, bob = await house.visit("Ada"), await house.visit("Bob")
    await ada.sees("#log .note", "Bob joined")
    await ada.write("Hello Bob")
    await bob.sees("#log .line .text", "Hello Bob")
    await bob.write("Hello Ada, <b>nice</b> & 'quoted'\u2028 \U0001f44b")
    await ada.sees("#log .line .text", "Hello Ada, <b>nice</b> & 'quoted'")
    for visitor in (ada, bob):
        assert len(await visitor.texts("#log .line .text")) == 2
        await visitor.page.wait("!document.querySelector('#log [data-state=waiting]')")


async def test_typing_shows_and_goes(house: House) -> None:
    ada, bob = await house.visit("Ada"), await house.visit("Bob")
    await bob.page.type("#text", "I am about to say")
    await ada.sees("#typing", "Bob is typing")
    await bob.page.press_enter()
    await ada.sees_not("#typing", "Bob is typing")
    await bob.page.type("#text", "or not")
    await ada.sees("#typing", "Bob is typing")
    await bob.page.evaluate("document.querySelector('#text').select()")
    await bob.page.evaluate("void document.execCommand('delete')")
    await ada.sees_not("#typing", "Bob is typing")


async def test_private_message_is_acknowledged_or_says_why_not(house: House) -> None:
    ada, bob, eve = [await house.visit(name) for name in ("Ada", "Bob", "Eve")]
    await ada.open_private("Bob")
    await ada.write("For you alone")
    await ada.sees("#log .own .state", "Delivered")
    await bob.sees("#conversations .badge", "1")
    await bob.open_private("Ada")
    await bob.sees("#log .text", "For you alone")
    await bob.page.go("about:blank")
    await ada.sees("#place-info", "offline")
    await ada.write("Still there?")
    await ada.sees("#log .own .state", "Bob is not online")
    assert await eve.texts("#log .text") == []
    assert await eve.texts("#conversations .label") == []


async def test_rooms_keep_their_talk_apart(house: House) -> None:
    ada, bob = await house.visit("Ada"), await house.visit("Bob")
    await ada.write("In the lobby")
    await bob.sees("#log .text", "In the lobby")
    await ada.create("Kitchen")
    await bob.sees("#log .note", "Ada left")
    await bob.sees("#elsewhere", "Kitchen")
    await ada.write("In the kitchen")
    await ada.page.wait("document.querySelector('#log .own[data-state=sent]')")
    await bob.write("Only lobby")
    await bob.page.wait("document.querySelectorAll('#log .own[data-state=sent]').length === 1")
    assert await ada.texts("#log .text") == ["In the kitchen"]
    assert await bob.texts("#log .text") == ["In the lobby", "Only lobby"]
    await bob.switch("Kitchen")
    await bob.sees("#log .text", "In the kitchen")
    await ada.sees("#log .note", "Bob joined")
    await bob.sees("#place-info", "2 in this room, 2 online")


async def test_reload_leaves_comes_back_and_reads_history(house: House) -> None:
    ada, bob = await house.visit("Ada"), await house.visit("Bob")
    await ada.write("Before the reload")
    await bob.sees("#log .text", "Before the reload")
    await bob.page.go("about:blank")
    await ada.sees("#log .note", "Bob left")
    await ada.sees("#place-info", "1 in this room, 1 online")
    await ada.write("While Bob was away")
    await bob.page.go(house.url)
    await bob.sees("#log .text", "While Bob was away")
    assert await bob.texts("#log .text") == ["Before the reload", "While Bob was away"]
    await ada.sees("#here", "Bob")
    await ada.sees("#place-info", "2 in this room, 2 online")


async def test_lines_written_offline_go_out_once(house: House) -> None:
    ada, bob = await house.visit("Ada"), await house.visit("Bob")
    # The emulated network refuses new connections but keeps open ones: the page cuts that itself.
    await ada.page.set_offline(True)
    await ada.page.evaluate("dispatchEvent(new Event('online'))")
    await ada.sees("#banner", "Connection lost")
    await bob.sees("#log .note", "Ada left")
    await ada.write("First offline line")
    await ada.write("Second offline line")
    await ada.sees("#log .state", "Waiting for the connection")
    assert await bob.texts("#log .text") == []
    await ada.page.set_offline(False)
    await bob.sees("#log .text", "Second offline line")
    await ada.sees_not("#log .state", "Waiting")
    expected = ["First offline line", "Second offline line"]
    assert await bob.texts("#log .text") == expected
    assert await ada.texts("#log .text") == expected


async def test_a_taken_name_is_refused_with_its_reason(house: House) -> None:
    await house.visit("Ada")
    page = await house.browser.open_page(house.url)
    await page.type("#name", "ADA")
    await page.press_enter()
    second = Visitor("Grace", page)
    await second.sees("#join-error", "Somebody called Ada is here already")
    await page.evaluate("document.querySelector('#name').value = ''")
    await second.enter()
    await second.sees("#here", "Ada")


async def test_it_fits_a_desk_and_a_phone(house: House) -> None:
    ada, bob = await house.visit("Ada Lovelace"), await house.visit("Tomás")
    await ada.write("Morning! The new build is up since eight, fan-out stays flat so far.")
    await bob.sees("#log .text", "Morning")
    await bob.write("Nice. Does the drain still hand everybody over?")
    await ada.sees("#log .text", "hand everybody over")
    await ada.write("Every one of them. I can show the log at eleven.")
    await bob.sees("#log .text", "at eleven")
    await ada.open_private("Tomás")
    await ada.write("And thanks for the review.")
    await ada.sees("#log .state", "Delivered")
    await ada.page.type("#text", "See")
    await bob.sees("#conversations", "Ada Lovelace")
    await bob.page.screenshot(ARTIFACTS / "chat-desktop.png")
    await bob.page.resize(390, 844, phone=True)
    await bob.page.wait("document.querySelector('#rooms-panel').inert")
    await bob.page.screenshot(ARTIFACTS / "chat-phone.png")
    assert await bob.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await bob.page.click("#open-people")
    await bob.sees("#here", "Ada Lovelace")
    await bob.page.wait("document.querySelector('#talk').inert")
    await bob.page.click("#people-panel [data-close]")
    await bob.sees_not("#here", "Ada Lovelace")
    await bob.page.wait("!document.querySelector('#talk').inert")
    await bob.page.click("#open-rooms")
    await bob.create("A room with a long name!")
    await bob.page.wait(
        "(t => t.placeholder && t.scrollHeight <= t.clientHeight)(document.querySelector('#text'))"
    )


async def test_the_entrance_of_a_phone_on_its_side_can_be_scrolled(house: House) -> None:
    page = await house.browser.open_page(house.url)
    assert await page.evaluate("document.title") == "Trio Chat"
    await page.resize(667, 320)
    await page.command("Input.dispatchMouseEvent", type="mouseWheel", x=300, y=200, deltaX=0, deltaY=2000)
    await page.wait("document.querySelector('#join-button').getBoundingClientRect().bottom <= innerHeight")


async def test_a_server_without_the_client_says_so(house: House) -> None:
    page = await house.browser.open_page("about:blank")
    await page.command("Network.enable")
    await page.command("Network.setBlockedURLs", urls=["*/socket.io.js"])
    await page.go(house.url)
    await Visitor("Ada", page).sees("#join-error", "has no Socket.IO client")
