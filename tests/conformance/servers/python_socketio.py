"""The conformance fixture with python-socketio under uvicorn; prints its URL, serves until its input ends."""

import asyncio
import socket as sockets
import sys

import socketio
import uvicorn

PARTS = ["broadcast", "burst", "call", "guarded", "handshake", "kick", "reasons", "slow", "slow-echo"]
NAMESPACES = ["/", "/custom", "/slow", "/guarded"]
UVICORN = ("http/malformed", "limit/head", "limit/too-many-headers", "websocket/bad-opening")


def make_server():
    server = socketio.AsyncServer(
        async_mode="asgi",
        ping_interval=0.3,
        ping_timeout=0.2,
        max_http_buffer_size=1_000_000,
        cors_allowed_origins="*",
        namespaces=NAMESPACES,
    )
    reasons = {}
    for namespace in NAMESPACES:
        add_base(server, namespace, reasons)
    add_parts(server, reasons)
    return server


def add_base(server, namespace, reasons):
    @server.on("connect", namespace=namespace)
    async def connect(sid, environ, auth=None):
        auth = auth or {}
        if namespace == "/slow":
            await asyncio.sleep(0.1)
            if auth.get("refuse"):
                raise socketio.exceptions.ConnectionRefusedError("refused")
        if namespace == "/guarded" and auth.get("token") != "s3cret":
            raise socketio.exceptions.ConnectionRefusedError("invalid token", {"retry": False})
        await server.save_session(
            sid,
            {"query": environ.get("QUERY_STRING", ""), "fruit": environ.get("HTTP_X_FRUIT")},
            namespace=namespace,
        )
        # The answer to CONNECT goes out after this handler.
        server.start_background_task(server.emit, "auth", auth, to=sid, namespace=namespace)

    @server.on("message", namespace=namespace)
    async def message(sid, *args):
        await server.emit("message-back", args, to=sid, namespace=namespace)

    @server.on("message-with-ack", namespace=namespace)
    async def message_with_ack(sid, *args):
        return args

    @server.on("kick", namespace=namespace)
    async def kick(sid, close):
        await server.disconnect(sid, namespace=namespace)

    @server.on("disconnect", namespace=namespace)
    async def disconnect(sid, reason):
        reasons[sid] = reason


def add_parts(server, reasons):
    @server.on("conformance")
    async def conformance(sid):
        return {"parts": PARTS, "also": {}, "elsewhere": dict.fromkeys(UVICORN, "uvicorn")}

    @server.on("reason-of")
    async def reason_of(sid, socket_id):
        return (reasons.get(socket_id),)

    @server.on("handshake")
    async def handshake(sid):
        session = await server.get_session(sid)
        fruit = "apple" if "fruit=apple" in session["query"] else session["query"]
        return {"fruit": fruit, "header": session["fruit"]}

    @server.on("burst")
    async def burst(sid, count):
        for number in range(count):
            await server.emit("number", number, to=sid)

    @server.on("letters")
    async def letters(sid, size):
        await server.emit("letters", "x" * size, to=sid)

    @server.on("join")
    async def join(sid, room):
        await server.enter_room(sid, room)

    @server.on("shout")
    async def shout(sid, *args):
        await server.emit("shouted", args, room="watchers")

    @server.on("slow-echo")
    async def slow_echo(sid, milliseconds, *args):
        await asyncio.sleep(milliseconds / 1000)
        await server.emit("slow-back", args, to=sid)
        return args

    async def ask(sid, *args):
        async def answered(*answer):
            await server.emit("answer", answer[0] if isinstance(answer[0], bytes) else list(answer), to=sid)

        await server.emit("question", args, to=sid, callback=answered)

    server.on("ask-me", ask)
    server.on("ask-me-beside", ask)

    @server.on("ask-me-briefly")
    async def ask_me_briefly(sid):
        try:
            await server.call("question", to=sid, timeout=0.1)
        except socketio.exceptions.TimeoutError:
            await server.emit("no-answer", to=sid)

    @server.on("ask-me-tell-all")
    async def ask_me_tell_all(sid, name):
        try:
            await server.call("question", to=sid, timeout=20)
        except (socketio.exceptions.TimeoutError, socketio.exceptions.DisconnectedError):
            await server.emit("shouted", f"{name} gone", room="watchers")


async def main():
    listener = sockets.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(100)  # before the URL is told
    config = uvicorn.Config(socketio.ASGIApp(make_server()), log_level="critical", access_log=False)
    server = uvicorn.Server(config)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    loop = asyncio.get_running_loop()
    loop.run_in_executor(None, sys.stdin.read).add_done_callback(
        lambda _: setattr(server, "should_exit", True)
    )
    await server.serve(sockets=[listener])


asyncio.run(main())
