// The parser of MessagePack: the same client, every packet in another form.
"use strict";

const parser = require("socket.io-msgpack-parser");
const { assert, ask, check, collect, connect: connectText, fresh, join, mode, next, open: openText, settled } = require("./client.js");

const options = { broker: "msgpack", parser };
const open = (namespace, more = {}) => openText(namespace, { ...options, ...more });
const connect = (namespace, more = {}) => connectText(namespace, { ...options, ...more });

check("connects with auth, and is told its id", async () => {
  const socket = await connect("/", { auth: { token: "x", bytes: Buffer.from([0, 255]) } });
  assert.match(socket.id, /^[\w-]{20}$/);
  const [known] = await ask(socket, "handshake");
  assert.equal(known.auth.token, "x");
  assert.deepEqual(Buffer.from(known.auth.bytes), Buffer.from([0, 255]));
  await settled(socket);
  const [later] = await ask(socket, "handshake");
  assert.equal(later.transport, mode === "polling" ? "polling" : "websocket");
});

check("is refused, with data", async () => {
  const socket = open("/guarded", { auth: { token: "wrong" } });
  const [error] = await next(socket, "connect_error");
  assert.equal(error.message, "not you");
  assert.deepEqual(error.data, { retry: false, code: 42 });
  const guarded = await connect("/guarded", { auth: { token: "s3cret" } });
  assert.deepEqual(await ask(guarded, "user"), ["ada"]);
  const [unknown] = await next(open("/unknown"), "connect_error");
  assert.equal(unknown.message, "Invalid namespace");
});

check("every kind of value comes back as it went", async () => {
  const socket = await connect();
  const values = [
    "", "grüße 日本語 👩‍👩‍👧", "\u0000\u001e", 0, -1, 127, 128, -32, -33, 65536, -65537, 1.5, -1e-7, Number.MAX_SAFE_INTEGER,
    Number.MIN_SAFE_INTEGER, Infinity, true, false, null, [], {}, [[[]]], { "": "" }, { "ключ": { 深: ["🎈"] } },
    "x".repeat(70_000), Array.from({ length: 300 }, (_, at) => at),
  ];
  for (const value of values) {
    const back = next(socket, "echo");
    socket.emit("echo", value);
    assert.deepEqual(await back, [value]);
  }
  assert.deepEqual(await ask(socket, "ack", ...values), values);
  assert.deepEqual(await ask(socket, "ack"), []);
});

check("undefined is null, NaN and dates stay what they are", async () => {
  const socket = await connect();
  const dates = [new Date(0), new Date(-1), new Date("2026-11-23T04:57:09.123Z"), new Date("9999-12-31")];
  assert.deepEqual(await ask(socket, "ack", undefined, NaN, dates), [null, NaN, dates]);
});

check("nested binary of every kind, both ways", async () => {
  const socket = await connect();
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, at) => at));
  const back = next(socket, "echo");
  socket.emit("echo", bytes, { deep: [new Float64Array([0.5]).buffer, { deeper: Buffer.from("x") }] }, "text", Buffer.alloc(0));
  const [one, two, three, four] = await back;
  assert.deepEqual(Buffer.from(one), bytes);
  assert.deepEqual(Buffer.from(two.deep[0]), Buffer.from(new Float64Array([0.5]).buffer));
  assert.equal(Buffer.from(two.deep[1].deeper).toString(), "x");
  assert.equal(three, "text");
  assert.equal(four.length, 0);
  const arrays = [new Uint8Array([0]), new Int32Array([-1]), new Float64Array([0.5]), new Uint8Array(70_000)];
  assert.deepEqual(await ask(socket, "sizes", ...arrays), [
    [["bytes", 1], ["bytes", 4], ["bytes", 8], ["bytes", 70_000]],
  ]);
  const large = Buffer.alloc(500_000, "0123456789abcdef");
  const [same] = await ask(socket, "ack", large);
  assert.equal(Buffer.compare(Buffer.from(same), large), 0);
});

check("acks of the client, with binary", async () => {
  const socket = await connect();
  socket.on("question", (data, answer) => answer({ data, more: Buffer.from("more") }, [Buffer.from("two")]));
  const [{ answer }] = await ask(socket, "ask_me", Buffer.from("one"));
  assert.equal(Buffer.from(answer[0].data).toString(), "one");
  assert.equal(Buffer.from(answer[0].more).toString(), "more");
  assert.equal(Buffer.from(answer[1][0]).toString(), "two");
});

check("error answers", async () => {
  const socket = await connect();
  const expected = { error: { code: "no_such_thing", message: "there is none", data: { tried: [1, 2] } } };
  assert.deepEqual(await ask(socket, "refuse"), [expected]);
  const error = next(socket, "error");
  socket.emit("refuse");
  assert.deepEqual(await error, [expected]);
});

check("rooms, broadcasts and broadcasts with acks", async () => {
  const room = fresh("room");
  const [first, second, third] = [await connect(), await connect(), await connect()];
  assert.deepEqual(await ask(first, "join", room), [[room]]);
  await ask(second, "join", room);
  const news = [first, second, third].map((socket) => collect(socket, "news"));
  assert.equal((await ask(third, "emit_to", [room], [], Buffer.from("b"), 1))[0].queued, 2);
  first.emit("others_in", room, "others");
  await ask(first, "ack");
  await ask(second, "ack");
  assert.deepEqual(news.map((all) => all.length), [1, 2, 0]);
  assert.equal(Buffer.from(news[0][0][0]).toString(), "b");
  first.on("question", (answer) => answer(1));
  second.on("question", (answer) => answer(Buffer.from("2")));
  const [answers] = await ask(third, "ask_room", room, 5);
  assert.equal(answers.responses[first.id], 1);
  assert.equal(Buffer.from(answers.responses[second.id]).toString(), "2");
});

check("several namespaces over one connection, left and entered again", async () => {
  const socket = await connect();
  const other = await join(socket, "/static");
  assert.deepEqual(await ask(other, "name"), ["/static"]);
  other.emit("kick", false);
  assert.deepEqual((await next(other, "disconnect"))[0], "io server disconnect");
  const back = next(other, "connect");
  other.connect();
  await back;
  other.disconnect();
  assert.deepEqual(await ask(socket, "ack", "there"), ["there"]);
});

check("2,000 events in order, both ways, through the upgrade", async () => {
  const socket = await connect();
  const got = collect(socket, "number");
  socket.emit("flood", 2000);
  for (let value = 0; value < 2000; value++) socket.emit("number", value);
  const [server] = await ask(socket, "numbers", 2000);
  assert.equal(server.in_order, true, JSON.stringify(server));
  assert.deepEqual(got.map(([value]) => value), Array.from({ length: 2000 }, (_, at) => at));
});

check("a client without the parser is sent away, and others stay", async () => {
  const socket = await connect();
  const wrong = openText("/", { broker: "msgpack", reconnection: false });
  const closed = next(wrong.io, "close");
  await closed;
  assert.equal(wrong.connected, false);
  assert.deepEqual(await ask(socket, "ack", "alive"), ["alive"]);
});
