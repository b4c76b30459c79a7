"""Drives headless Chromium through its DevTools protocol, on Trio: start, open pages, ask, wait."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import attrs
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from tests.programs import run_program

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A page in the background is throttled, and both pages of a test cannot be in front.
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    "--remote-debugging-port=0",
)
START_TIMEOUT = 30.0
CLOSE_TIMEOUT = 5.0
WAIT_TIMEOUT = 15.0
POLL_INTERVAL = 0.03
MAX_MESSAGE_BYTES = 64 * 1024 * 1024  # a screenshot is one message


class PageError(Exception):
    """The page threw, or did not come to the state that was waited for."""


def find_chromium() -> str | None:
    """Return the path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@asynccontextmanager
async def open_chromium(executable: str) -> AsyncIterator[Browser]:
    """Run Chromium with a profile of its own for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        command = [executable, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        async with trio.open_nursery() as nursery:
            run = partial(
                run_program,
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                check=False,  # it is stopped by a signal
            )
            process = await nursery.start(run)
            url = await _endpoint(process)
            # What it prints later must be read, or it stops at a full pipe.
            nursery.start_soon(_discard, process.stderr)
            async with await trio.open_tcp_stream(url.hostname or "", url.port or 0) as stream:
                connection = await wrap_client_stream(
                    nursery, stream, url.netloc, url.path, max_message_size=MAX_MESSAGE_BYTES
                )
                browser = Browser(connection)
                nursery.start_soon(browser.read)
                yield browser
                # Asked to close it waits for its children; killed it leaves them to nobody.
                with trio.move_on_after(CLOSE_TIMEOUT):
                    await browser.command("Browser.close")
                    await process.wait()
            nursery.cancel_scope.cancel()


async def _endpoint(process: trio.Process) -> SplitResult:
    """Read stderr up to the line that names the DevTools URL."""
    assert process.stderr is not None
    printed = b""
    with trio.move_on_after(START_TIMEOUT):
        async for chunk in process.stderr:
            printed += chunk
            found = re.search(rb"DevTools listening on (ws://\S+)\s", printed)
            if found:
                return urlsplit(found[1].decode("ascii"))
    raise PageError(f"Chromium did not start: {printed[-2000:].decode(errors='replace')}")


async def _discard(stream: trio.abc.ReceiveStream) -> None:
    async for _ in stream:
        pass


@attrs.define(eq=False)
class Browser:
    """A running Chromium. `read` must run in a task while anything else is used."""

    _connection: WebSocketConnection
    _ids: Any = attrs.field(factory=lambda: count(1), init=False)
    _waiting: dict[int, trio.MemorySendChannel[dict[str, Any]]] = attrs.field(factory=dict, init=False)

    async def read(self) -> None:
        """Hand each answer to the command that waits for it; events are not used."""
        try:
            while True:
                message = json.loads(await self._connection.get_message())
                waiting = self._waiting.pop(message.get("id", 0), None)
                if waiting is not None:
                    waiting.send_nowait(message)
        except ConnectionClosed:
            return

    async def command(self, method: str, session: str | None = None, **params: Any) -> Any:
        """Run a DevTools command and return its result."""
        number = next(self._ids)
        send, receive = trio.open_memory_channel[dict[str, Any]](1)
        self._waiting[number] = send
        request = {"id": number, "method": method, "params": params}
        if session is not None:
            request["sessionId"] = session
        await self._connection.send_message(json.dumps(request))
        with trio.fail_after(WAIT_TIMEOUT):
            answer = await receive.receive()
        if "error" in answer:
            raise PageError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    async def open_page(self, url: str, *, width: int = 1280, height: int = 800) -> Page:
        """Open `url` in a new page with storage and cookies of its own."""
        context = await self.command("Target.createBrowserContext")
        target = await self.command(
            "Target.createTarget", url="about:blank", browserContextId=context["browserContextId"]
        )
        attached = await self.command("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self, attached["sessionId"])
        await page.command("Page.enable")
        await page.resize(width, height)
        await page.set_scheme("light")
        await page.go(url)
        return page


@attrs.define(eq=False)
class Page:
    """One page of a `Browser`."""

    _browser: Browser
    _session: str

    async def command(self, method: str, **params: Any) -> Any:
        """Run a DevTools command on this page."""
        return await self._browser.command(method, self._session, **params)

    async def go(self, url: str) -> None:
        """Load `url` and wait until its scripts ran."""
        result = await self.command("Page.navigate", url=url)
        if result.get("errorText"):
            raise PageError(f"{url}: {result['errorText']}")
        await self.wait("document.readyState === 'complete'")

    async def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """Give the page a size in CSS pixels; `phone` adds touch and a sharper screen."""
        await self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        await self.command("Emulation.setTouchEmulationEnabled", enabled=phone)

    async def set_scheme(self, scheme: str) -> None:
        """Show the page to somebody who prefers `light` or `dark`, and nothing that moves."""
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},  # a moving button is missed
        ]
        await self.command("Emulation.setEmulatedMedia", features=features)

    async def set_offline(self, offline: bool) -> None:
        """Cut the page off from the network, or connect it again; open sockets are not cut."""
        await self.command("Network.enable")
        await self.command(
            "Network.emulateNetworkConditions",
            offline=offline,
            latency=0,
            downloadThroughput=-1,
            uploadThroughput=-1,
        )

    async def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, awaited if it is a promise."""
        answer = await self.command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise PageError(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    async def wait(self, condition: str, *, timeout: float = WAIT_TIMEOUT) -> None:
        """Poll a JavaScript condition until it is true.

        Raises:
            PageError: it was not true within `timeout` seconds.
        """
        with trio.move_on_after(timeout):
            while True:
                try:
                    if await self.evaluate(f"Boolean({condition})"):
                        return
                except PageError:
                    pass  # the page is between two documents
                await trio.sleep(POLL_INTERVAL)
        text = await self.evaluate("document.body ? document.body.innerText : ''")
        raise PageError(f"waited {timeout} s for {condition}; the page shows:\n{text}")

    async def focus(self, selector: str) -> None:
        """Focus the element that `selector` finds."""
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")

    async def click(self, selector: str) -> None:
        """Click the middle of the first element that `selector` finds, with the mouse."""
        found = json.dumps(selector)
        await self.wait(f"document.querySelector({found})?.checkVisibility()")
        x, y = await self.evaluate(
            f"(() => {{ const e = document.querySelector({found}); e.scrollIntoView({{block: "
            "'nearest'}); const b = e.getBoundingClientRect(); "
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.command("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def type(self, selector: str, text: str) -> None:
        """Write `text` into the field that `selector` finds, as a keyboard would."""
        await self.focus(selector)
        await self.command("Input.insertText", text=text)

    async def press_enter(self) -> None:
        """Press Enter where the focus is."""
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
        await self.command("Input.dispatchKeyEvent", type="keyDown", text="\r", **key)
        await self.command("Input.dispatchKeyEvent", type="keyUp", **key)

    async def screenshot(self, path: Path) -> None:
        """Save what the page shows as a PNG."""
        answer = await self.command("Page.captureScreenshot", format="png")
        await trio.Path(path.parent).mkdir(parents=True, exist_ok=True)
        await trio.Path(path).write_bytes(base64.b64decode(answer["data"]))
