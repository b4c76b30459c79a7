// Who is let in, with what, and what a refused client learns.
"use strict";

const { assert, ask, brokers, check, connect, join, mode, next, open, settled } = require("./client.js");

check("connects over the transport it was told to", async () => {
  const socket = await connect();
  await settled(socket);
  assert.equal(socket.io.engine.transport.name, mode === "upgrade" ? "websocket" : mode);
  const [known] = await ask(socket, "handshake");
  assert.equal(known.transport, mode === "upgrade" ? "websocket" : mode);
  assert.match(socket.id, /^[\w-]{20}$/);
  assert.notEqual(socket.id, socket.io.engine.id, "the session id is a secret");
});

check("auth, query, headers and address reach the handshake", async () => {
  const socket = await connect("/", {
    auth: { token: "tök 🔑", nested: { deep: [1, null, true] } },
    query: { a: "1", text: "grüße & more=less" },
    extraHeaders: { "x-custom": "value" },
  });
  const [known] = await ask(socket, "handshake");
  assert.deepEqual(known.auth, { token: "tök 🔑", nested: { deep: [1, null, true] } });
  assert.equal(known.query.a, "1");
  assert.equal(known.query.text, "grüße & more=less");
  assert.equal(known.query.EIO, "4");
  assert.equal(known.headers["x-custom"], "value");
  assert.equal(known.address, "127.0.0.1");
});

// As in a browser, a client that offers some takes no connection for which none is chosen.
check("a client that offers subprotocols", async () => {
  const socket = await connect("/", { protocols: ["chat", "superchat"] });
  await settled(socket);
  assert.equal(socket.io.engine.transport.name, mode === "upgrade" ? "websocket" : mode);
});

check("auth given by a function", async () => {
  const socket = await connect("/", { auth: (give) => give({ token: "late" }) });
  assert.deepEqual((await ask(socket, "handshake"))[0].auth, { token: "late" });
});

check("a middleware refuses with data, and lets in after another try", async () => {
  const socket = open("/guarded", { auth: { token: "wrong" } });
  const [error] = await next(socket, "connect_error");
  assert.equal(error.message, "not you");
  assert.deepEqual(error.data, { retry: false, code: 42 });
  assert.equal(socket.active, false, "a refusal by a middleware is final until the client says connect");
  socket.auth = { token: "s3cret" };
  socket.connect();
  await next(socket, "connect");
  assert.deepEqual(await ask(socket, "user"), ["ada"]);
});

check("a typed error in a middleware", async () => {
  const [error] = await next(open("/refusing"), "connect_error");
  assert.equal(error.message, "go away");
  assert.deepEqual(error.data, { code: "banned", data: { until: "tomorrow" } });
});

check("a connect handler that refuses sends the client away", async () => {
  const socket = await connect("/fickle");
  const reason = socket.connected ? (await next(socket, "disconnect"))[0] : "io server disconnect";
  assert.equal(reason, "io server disconnect");
});

check("an unknown namespace is invalid, and others of the connection live on", async () => {
  const socket = await connect();
  const other = socket.io.socket("/unknown", {});
  const [error] = await next(other, "connect_error");
  assert.equal(error.message, "Invalid namespace");
  assert.deepEqual(await ask(socket, "ack", 1), [1]);
  other.disconnect();
});

check("nobody listening is a connect_error, and the client goes on trying", async () => {
  const socket = open("/", { broker: "main", reconnectionDelay: 5, path: "/nothing-here" });
  const [error] = await next(socket, "connect_error");
  assert.match(error.message, /xhr poll error|server error|websocket error/);
  assert.equal(socket.active, true);
  await next(socket.io, "reconnect_attempt");
});

check("a cookie is set on the first answer of polling", async (context) => {
  if (mode === "websocket") return context.skip("Node's WebSocket shows no headers");
  const socket = await connect("/", { broker: "narrow", withCredentials: true, transports: ["polling"] });
  await ask(socket, "ack", 1);
  const [known] = await ask(socket, "handshake");
  assert.equal(known.headers.cookie, undefined, "the first request has none");
  const jar = new Map(socket.io.engine._cookieJar.cookies);
  assert.equal(jar.get("sticky").value, socket.io.engine.id);
});

check("multiplexing: three namespaces over one connection", async () => {
  const main = await connect();
  const fixed = await join(main, "/static");
  const guarded = await join(main, "/guarded", { auth: { token: "s3cret" } });
  assert.equal(new Set([main.io.engine, fixed.io.engine, guarded.io.engine]).size, 1);
  assert.equal(new Set([main.id, fixed.id, guarded.id]).size, 3);
  assert.deepEqual(await ask(fixed, "name"), ["/static"]);
  assert.deepEqual(await ask(guarded, "name"), ["/guarded"]);
  fixed.disconnect();
  assert.deepEqual(await ask(guarded, "ack", "still"), ["still"]);
  assert.deepEqual(await ask(main, "ack", "here"), ["here"]);
  assert.equal(main.connected, true);
});

check("namespaces by pattern and by predicate", async () => {
  const one = await connect("/room-1");
  assert.deepEqual(await ask(one, "name"), ["/room-1"]);
  const two = await join(one, "/room-22");
  const heard = next(two, "news");
  one.on("news", () => assert.fail("news of another namespace"));
  two.emit("everyone", "hello");
  assert.deepEqual(await heard, ["hello"]);
  const asked = await join(one, "/asked-x", { auth: { answer: 42 } });
  assert.deepEqual(await ask(asked, "name"), ["/asked-x"]);
  for (const [name, options] of [["/room-x", {}], ["/asked-y", { auth: { answer: 41 } }]]) {
    const refused = one.io.socket(name, options);
    assert.equal((await next(refused, "connect_error"))[0].message, "Invalid namespace");
    refused.disconnect();
  }
});

check("the bundle of the client is served", async () => {
  const answer = await fetch(`${brokers.main}/socket.io/socket.io.js`);
  assert.ok([200, 404].includes(answer.status));
  const text = await answer.text();
  if (answer.status === 200) assert.match(text, /Socket\.IO/);
});
