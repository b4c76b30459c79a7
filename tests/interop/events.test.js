// Events and acks, both ways, with everything that JSON and attachments can carry.
"use strict";

const { assert, ask, check, collect, connect, mode, next, pause, settled } = require("./client.js");

const VALUES = {
  texts: ["", "plain", "grüße", "日本語", "👩‍👩‍👧‍👦 \u{1F600}", "\u0000\u001e\u2028\u2029", '"quoted" \\ /', "[\"42\"]"],
  numbers: [0, -1, 1.5, 1e21, -1e-7, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER],
  others: [true, false, null, [], {}, [[]], [[[]]], { "": "" }, { "ключ": { 深: ["🎈"] } }],
  placeholder: { _placeholder: "not one" },
};

check("every kind of JSON comes back as it went", async () => {
  const socket = await connect();
  for (const value of Object.values(VALUES).flat()) {
    const back = next(socket, "echo");
    socket.emit("echo", value);
    assert.deepEqual(await back, [value]);
  }
  assert.deepEqual(await ask(socket, "ack", VALUES, VALUES.texts), [VALUES, VALUES.texts]);
});

check("what JSON has no word for goes as JavaScript writes it", async () => {
  const socket = await connect();
  const date = new Date(0);
  assert.deepEqual(await ask(socket, "ack", undefined, NaN, date, { gone: undefined }), [
    null, null, date.toISOString(), {},
  ]);
});

check("no arguments, one, and many", async () => {
  const socket = await connect();
  assert.deepEqual(await ask(socket, "ack"), []);
  assert.deepEqual(await ask(socket, "ack", [1, 2]), [[1, 2]]);
  const many = Array.from({ length: 300 }, (_, at) => at);
  assert.deepEqual(await ask(socket, "ack", ...many), many);
});

check("event names of any kind", async () => {
  const socket = await connect("/listening");
  for (const name of ["🎈", "with space", "a,b", "[]", "toString", "__proto__"]) socket.emit(name, 1);
  const [heard] = await ask(socket, "heard");
  assert.deepEqual(heard.seen.slice(0, 6).map((one) => one[0]), ["🎈", "with space", "a,b", "[]", "toString", "__proto__"]);
});

check("binary of every kind, nested, both ways", async () => {
  const socket = await connect();
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, at) => at));
  const typed = new Uint16Array([1, 2, 65535]);
  const view = new DataView(bytes.buffer, bytes.byteOffset, 16);
  const back = next(socket, "echo");
  socket.emit("echo", bytes, { deep: [typed.buffer, { deeper: Buffer.from("x") }] }, "text", view, Buffer.alloc(0));
  const [one, two, three, four, five] = await back;
  assert.deepEqual(Buffer.from(one), bytes);
  assert.deepEqual(new Uint16Array(new Uint8Array(two.deep[0]).buffer), typed);
  assert.equal(Buffer.from(two.deep[1].deeper).toString(), "x");
  assert.equal(three, "text");
  assert.equal(Buffer.from(four).length, 16);
  assert.equal(Buffer.from(five).length, 0);
});

check("typed arrays arrive as their bytes", async () => {
  const socket = await connect();
  const arrays = [new Uint8Array([1, 2]), new Int32Array([-1]), new Float64Array([0.5, 2]), new BigUint64Array([7n])];
  assert.deepEqual(await ask(socket, "sizes", ...arrays), [
    [["bytes", 2], ["bytes", 4], ["bytes", 16], ["bytes", 8]],
  ]);
});

check("a large attachment", async () => {
  const socket = await connect();
  const large = Buffer.alloc(500_000, "0123456789abcdef");
  const [back] = await ask(socket, "ack", large);
  assert.equal(Buffer.compare(Buffer.from(back), large), 0);
});

check("binary acks, to and from the server", async () => {
  const socket = await connect();
  socket.on("question", (data, answer) => answer({ data, more: Buffer.from("more") }, [Buffer.from("two")]));
  const [{ answer }] = await ask(socket, "ask_me", Buffer.from("one"));
  assert.equal(Buffer.from(answer[0].data).toString(), "one");
  assert.equal(Buffer.from(answer[0].more).toString(), "more");
  assert.equal(Buffer.from(answer[1][0]).toString(), "two");
});

check("acks to the server: none, one and several values", async () => {
  const socket = await connect();
  for (const [values, expected] of [[[], null], [["one"], "one"], [["a", { b: 1 }, null], ["a", { b: 1 }, null]]]) {
    socket.once("question", (...args) => args.at(-1)(...values));
    assert.deepEqual(await ask(socket, "ask_me", 1, 2), [{ answer: expected }]);
  }
});

check("emitWithAck and timeout", async () => {
  const socket = await connect();
  assert.equal(await socket.emitWithAck("ack", "x"), "x");
  assert.equal(await socket.timeout(5000).emitWithAck("ack", "y"), "y");
  await assert.rejects(socket.timeout(50).emitWithAck("never"), /operation has timed out/);
  assert.deepEqual(await ask(socket, "ack", "after"), ["after"]);
});

check("the server's own timeout", async () => {
  const socket = await connect();
  let late;
  socket.on("question", (answer) => { late = answer; });
  assert.deepEqual(await ask(socket, "ask_briefly"), ["AckTimeout"]);
  late("too late");
  assert.deepEqual(await ask(socket, "ack", "alive"), ["alive"]);
});

check("typed errors as acks and as events", async () => {
  const socket = await connect();
  const expected = { error: { code: "no_such_thing", message: "there is none", data: { tried: [1, 2] } } };
  assert.deepEqual(await ask(socket, "refuse"), [expected]);
  const error = next(socket, "error");
  socket.emit("refuse");
  assert.deepEqual(await error, [expected]);
  assert.equal((await ask(socket, "crash"))[0].error.code, "crashed");
  assert.deepEqual(await ask(socket, "typed", 2, "ab"), ["abab"]);
  const [refused] = await ask(socket, "typed", "two", "ab");
  assert.equal(typeof refused.error.code, "string");
  const [arity] = await ask(socket, "typed", 2);
  assert.equal(arity.error.code, "wrong_arity");
});

check("a slow handler does not hold up acks and heartbeats, and keeps order", async () => {
  const socket = await connect();
  const order = [];
  const answers = [0.05, 0.01, 0].map(async (seconds, at) => order.push((await ask(socket, "slow", seconds, at))[0]));
  await Promise.all(answers);
  assert.deepEqual(order, [0, 1, 2]);
});

check("events before the connection are kept, volatile ones are not", async () => {
  const socket = await connect();
  socket.disconnect();
  const back = collect(socket, "echo");
  socket.emit("echo", "kept");
  socket.volatile.emit("echo", "lost");
  socket.connect();
  await next(socket, "connect");
  await ask(socket, "ack");
  assert.deepEqual(back, [["kept"]]);
});

check("volatile from the client arrives while connected", async () => {
  const socket = await connect();
  await settled(socket);
  await ask(socket, "ack");
  // Over polling the client drops it while a POST is under way; an ack may overtake the answer to its own.
  while (!socket.io.engine.transport.writable) await pause(1);
  const back = next(socket, "echo");
  socket.volatile.emit("echo", "now");
  assert.deepEqual(await back, ["now"]);
});

check("volatile from the server: what is said to be queued arrives, in order", async () => {
  const socket = await connect();
  await settled(socket);
  const got = collect(socket, "number");
  const [verdicts] = await ask(socket, "volatile_flood", 200, "x".repeat(20_000));
  assert.equal(verdicts.QUEUED + verdicts.DROPPED, 200);
  await ask(socket, "ack");
  assert.equal(got.length, verdicts.QUEUED);
  assert.deepEqual(got.map(([value]) => value), got.map(([value]) => value).sort((a, b) => a - b));
});

check("catch-all listeners on both sides, and middlewares for events", async () => {
  const socket = await connect("/listening");
  const incoming = [];
  const outgoing = [];
  socket.onAny((...args) => incoming.push(args));
  socket.onAnyOutgoing((...args) => outgoing.push(args));
  const back = next(socket, "echo");
  socket.emit("echo", 1, "two");
  await back;
  socket.emit("nobody handles this", 3);
  assert.equal((await socket.timeout(5000).emitWithAck("forbidden")).error.code, "forbidden");
  const [heard] = await ask(socket, "heard");
  assert.deepEqual(heard.seen, [["echo", 1, "two"], ["nobody handles this", 3], ["forbidden"], ["heard"]]);
  assert.deepEqual(heard.sent, [["echo", 1, "two"]]);
  assert.deepEqual(incoming, [["echo", 1, "two"]]);
  assert.equal(outgoing.length, 4);
});

check("2,000 events in order, both ways", async () => {
  const socket = await connect();
  const got = collect(socket, "number");
  socket.emit("flood", 2000);
  for (let value = 0; value < 2000; value++) socket.emit("number", value);
  const [server] = await ask(socket, "numbers", 2000);
  assert.equal(server.in_order, true, JSON.stringify(server));
  assert.deepEqual(got.map(([value]) => value), Array.from({ length: 2000 }, (_, at) => at));
});
