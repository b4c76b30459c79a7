"""A session's long-polling, over httpx2."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from broker.flow.encoded import EncodedMessage
from protocol import ClientReason
from protocol.engineio.packet import CLOSE, Packet
from protocol.engineio.payload import decode_payload, encode_payload

from .errors import TransportFailed, explain, parse_retry_after
from .options import ClientOptions

if TYPE_CHECKING:
    import httpx2

MAX_PACKETS = 16  # what python-engineio takes in one body; it loses the rest
_MISSING = (
    "long-polling needs httpx2: install it with `pip install 'trio-broker[client]'`, "
    "or use transports=('websocket',)"
)


class HttpClient:
    """The HTTP client of one Socket.IO client: its cookies outlive a session.

    Raises:
        ModuleNotFoundError: httpx2 is not installed.
    """

    def __init__(self, options: ClientOptions) -> None:
        try:
            import httpx2
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(_MISSING, name="httpx2") from error
        self.errors: tuple[type[Exception], ...] = (
            httpx2.HTTPError,
            httpx2.InvalidURL,
            OSError,
            UnicodeError,  # a host that has no form in the DNS
        )
        transport = None
        if options.connector is not None:
            from . import connecting  # it needs httpx2

            transport = connecting.ConnectorTransport(options.connector, options.ssl_context)
            self.errors += connecting.errors()
        self._options = options
        self._one_piece = _stream_class(httpx2.AsyncByteStream)
        self.http = httpx2.AsyncClient(
            headers=dict(options.headers),
            cookies=dict(options.cookies),
            verify=True if options.ssl_context is None else options.ssl_context,
            proxy=options.proxy,
            transport=transport,
            # A poll is parked for as long as the server has nothing to say: the heartbeat watches over it.
            timeout=httpx2.Timeout(options.connect_timeout, read=None, pool=None),
        )

    def cookie_header(self) -> str:
        """Return the cookies as one header, for the WebSocket of the same session."""
        request = self.http.build_request("GET", self._options.http_url(None))
        return str(request.headers.get("cookie", ""))

    async def request(self, session_id: str | None, content: bytes | None = None) -> bytes:
        """Send a GET, or a POST of `content`, and return the body of the answer.

        Raises:
            TransportFailed: It was not answered with 200, or the body is too long.
        """
        url = self._options.http_url(session_id)
        kind = "poll" if content is None else "post"
        try:
            if content is None:
                request = self.http.build_request("GET", url)
            else:
                headers = {"Content-Type": "text/plain;charset=UTF-8", "Content-Length": str(len(content))}
                request = self.http.build_request("POST", url, headers=headers)
            request.stream = self._one_piece(content or b"")
            response = await self.http.send(request, stream=True)
            try:
                body = await self._body(response)
            finally:
                await response.aclose()
        except self.errors as error:
            raise TransportFailed(
                ClientReason.TRANSPORT_ERROR, f"xhr {kind} error: {explain(error)}"
            ) from error
        if response.status_code != 200:
            said = body.decode("utf-8", "replace")[:200]
            raise TransportFailed(
                ClientReason.TRANSPORT_ERROR,
                f"xhr {kind} error: status {response.status_code} {said}".rstrip(),
                parse_retry_after(response.headers.get("retry-after")),
            )
        return body

    async def _body(self, response: httpx2.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > self._options.max_message_bytes:
                raise TransportFailed(
                    ClientReason.TRANSPORT_ERROR, "the answer exceeds max_message_bytes of the client"
                )
        return bytes(body)

    async def aclose(self) -> None:
        """Close all connections."""
        await self.http.aclose()


def _stream_class(base: type[httpx2.AsyncByteStream]) -> Callable[[bytes], httpx2.AsyncByteStream]:
    """Return a body that may be dropped halfway: httpx2's own is a generator, which Trio warns of."""

    class OnePiece(base):  # type: ignore[misc,valid-type] # httpx2 is imported when needed
        def __init__(self, data: bytes) -> None:
            self._left = [data] if data else []

        def __aiter__(self) -> AsyncIterator[bytes]:
            return self

        async def __anext__(self) -> bytes:
            if not self._left:
                raise StopAsyncIteration
            return self._left.pop()

    return OnePiece


class PollingTransport:
    """Packets by GET and POST.

    Attributes:
        session_id: The session, once OPEN has come.
        max_payload_bytes: The longest body that the server takes.
    """

    name = "polling"

    def __init__(self, client: HttpClient, options: ClientOptions) -> None:
        self._client = client
        self._options = options
        self.session_id: str | None = None
        self.max_payload_bytes = options.max_message_bytes
        self._failure: TransportFailed | None = None

    async def receive(self) -> list[Packet]:
        """Ask once, and wait for the answer.

        Raises:
            TransportFailed: There is none, or it holds no packets.
        """
        if self._failure is not None:
            raise self._failure
        body = await self._client.request(self.session_id)
        packets, violation = decode_payload(body, self._options.limits)
        if violation is not None:
            # What stands before the bad packet is acted on first.
            self._failure = TransportFailed(ClientReason.TRANSPORT_ERROR, "server error: " + violation.text)
            if not packets:
                raise self._failure
        return packets

    async def send(self, messages: Sequence[EncodedMessage]) -> None:
        """Send messages in order, in as few bodies as the server's limit allows. Spec: EIO-POLL-16.

        Raises:
            TransportFailed: A POST failed.
        """
        packets = [packet for message in messages for packet in message.base64_packets()]
        for batch in batches(packets, self.max_payload_bytes):
            await self._client.request(self.session_id, encode_payload(batch))

    async def goodbye(self) -> None:
        """Tell the server that the session is over. Spec: EIO-CLOSE-1."""
        try:
            await self._client.request(self.session_id, CLOSE)
        except TransportFailed:
            pass  # it is over either way


def batches(packets: Iterable[bytes], max_bytes: int) -> Iterable[list[bytes]]:
    """Split packets so that no body exceeds `max_bytes`, nor the count that every server takes.

    A packet that is too long by itself goes alone: the server's refusal says more than silence.
    """
    batch: list[bytes] = []
    size = 0
    for packet in packets:
        needed = len(packet) + (1 if batch else 0)
        if batch and (size + needed > max_bytes or len(batch) >= MAX_PACKETS):
            yield batch
            batch, size, needed = [], 0, len(packet)
        batch.append(packet)
        size += needed
    if batch:
        yield batch
