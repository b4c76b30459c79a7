"""A server to be judged by the conformance kit, here with python-socketio under uvicorn.

pip install python-socketio uvicorn websockets; python server.py [PORT]
Put your own implementation in the place of python-socketio; what the kit asks for is marked by numbers.
"""

import asyncio
import socket
import sys

import socketio
import uvicorn

# 1. Short times, so that a run takes seconds; the kit reads them from the OPEN packet. Every origin may come.
server = socketio.AsyncServer(
    async_mode="asgi",
    ping_interval=0.3,
    ping_timeout=0.2,
    max_http_buffer_size=1_000_000,
    cors_allowed_origins="*",
    namespaces=["/", "/custom"],
)


def serve_namespace(name):
    @server.on("connect", namespace=name)
    async def connect(sid, environ, auth=None):
        # 2. The client is shown its auth object: by a task, since the answer to CONNECT goes first.
        server.start_background_task(server.emit, "auth", auth or {}, to=sid, namespace=name)

    @server.on("message", namespace=name)
    async def message(sid, *args):
        # 3. An echo: whatever came, bytes too, under another name.
        await server.emit("message-back", args, to=sid, namespace=name)

    @server.on("message-with-ack", namespace=name)
    async def message_with_ack(sid, *args):
        # 4. An echo in the acknowledgement.
        return args


@server.on("conformance")
async def conformance(sid):
    # 5. Optional: what else there is. Cases that need more are skipped, and the report says what they need.
    return {"parts": ["burst"], "also": {}}


@server.on("burst")
async def burst(sid, count):
    # 6. One of the optional parts: many events at once, which must come in order.
    for number in range(count):
        await server.emit("number", number, to=sid)


for namespace in ("/", "/custom"):
    serve_namespace(namespace)


async def main(port):
    with socket.create_server(("127.0.0.1", port)) as listener:
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        config = uvicorn.Config(socketio.ASGIApp(server), log_level="critical", access_log=False)
        await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3000))
