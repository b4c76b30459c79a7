// Who gets a broadcast, and who answers one.
"use strict";

const { assert, ask, check, collect, connect, fresh, next, settled } = require("./client.js");

async function three() {
  const sockets = await Promise.all([connect(), connect(), connect()]);
  return { sockets, news: sockets.map((socket) => collect(socket, "news")) };
}

/** An ack comes behind all that was sent to the socket before. */
const flushed = (sockets) => Promise.all(sockets.map((socket) => ask(socket, "ack")));

check("join, leave, and who is in", async () => {
  const socket = await connect();
  const [a, b] = [fresh("a"), fresh("b")];
  assert.deepEqual(await ask(socket, "join", a, b), [[a, b]]);
  assert.deepEqual(await ask(socket, "fetch", a), [[socket.id]]);
  assert.deepEqual(await ask(socket, "leave", a), [[b]]);
  assert.deepEqual(await ask(socket, "fetch", a), [[]]);
});

check("to several rooms, each member once", async () => {
  const { sockets, news } = await three();
  const [a, b] = [fresh("a"), fresh("b")];
  await ask(sockets[0], "join", a, b);
  await ask(sockets[1], "join", b);
  const [counts] = await ask(sockets[2], "emit_to", [a, b], [], "hello", { n: 1 });
  assert.deepEqual(counts, { queued: 2, dropped: 0, closed: 0 });
  await flushed(sockets);
  assert.deepEqual(news, [[["hello", { n: 1 }]], [["hello", { n: 1 }]], []]);
});

check("except wins over to", async () => {
  const { sockets, news } = await three();
  const [a, b] = [fresh("a"), fresh("b")];
  await ask(sockets[0], "join", a, b);
  await ask(sockets[1], "join", a);
  await ask(sockets[2], "emit_to", [a], [b], "x");
  await flushed(sockets);
  assert.deepEqual(news, [[], [["x"]], []]);
  await ask(sockets[2], "emit_to", [a], [sockets[1].id], "y");
  await flushed(sockets);
  assert.deepEqual(news, [[["y"]], [["x"]], []]);
});

check("a socket's own room", async () => {
  const { sockets, news } = await three();
  await ask(sockets[0], "emit_to", [sockets[1].id], [], "only you");
  await flushed(sockets);
  assert.deepEqual(news, [[], [["only you"]], []]);
});

check("socket.to leaves out the sender, broadcast and everyone", async () => {
  const { sockets, news } = await three();
  const room = fresh("room");
  for (const socket of sockets) await ask(socket, "join", room);
  await ask(sockets[0], "others_in", room, 1);
  await ask(sockets[1], "broadcast", 2);
  await ask(sockets[2], "everyone", 3);
  await flushed(sockets);
  assert.deepEqual(news, [[[2], [3]], [[1], [3]], [[1], [2], [3]]]);
});

check("binary to a room", async () => {
  const { sockets, news } = await three();
  const room = fresh("room");
  await ask(sockets[0], "join", room);
  await ask(sockets[1], "join", room);
  await ask(sockets[2], "emit_to", [room], [], { bytes: Buffer.from([0, 255]), more: [Buffer.from("é")] }, Buffer.alloc(0));
  await flushed(sockets);
  for (const got of news.slice(0, 2)) {
    assert.equal(got.length, 1);
    const [[{ bytes, more }, empty]] = got;
    assert.deepEqual([...Buffer.from(bytes)], [0, 255]);
    assert.equal(Buffer.from(more[0]).toString(), "é");
    assert.equal(Buffer.from(empty).length, 0);
  }
});

check("a broadcast that asks: everyone answers", async () => {
  const { sockets } = await three();
  const room = fresh("room");
  for (const [at, socket] of sockets.entries()) {
    await ask(socket, "join", room);
    socket.on("question", (base, answer) => answer(base + at));
  }
  const asker = await connect();
  const [acks] = await ask(asker, "ask_room", room, 5, 10);
  assert.deepEqual(acks.responses, { [sockets[0].id]: 10, [sockets[1].id]: 11, [sockets[2].id]: 12 });
  assert.deepEqual([acks.missing, acks.disconnected], [[], []]);
});

check("a broadcast that asks: one is silent, one leaves", async () => {
  const { sockets } = await three();
  const room = fresh("room");
  for (const socket of sockets) {
    await ask(socket, "join", room);
    await settled(socket);
  }
  const ids = sockets.map(({ id }) => id); // a socket that has left has none
  sockets[0].on("question", (answer) => answer("me"));
  sockets[2].on("question", () => sockets[2].disconnect());
  const asker = await connect();
  const [acks] = await ask(asker, "ask_room", room, 0.3);
  assert.deepEqual(acks.responses, { [ids[0]]: "me" });
  assert.deepEqual([acks.missing, acks.disconnected], [[ids[1]], [ids[2]]]);
});

check("a room is sent away", async () => {
  const { sockets } = await three();
  const room = fresh("room");
  await ask(sockets[0], "join", room);
  await ask(sockets[1], "join", room);
  const gone = sockets.slice(0, 2).map((socket) => next(socket, "disconnect"));
  await ask(sockets[2], "disconnect_room", room, false);
  assert.deepEqual((await Promise.all(gone)).map(([reason]) => reason), ["io server disconnect", "io server disconnect"]);
  assert.deepEqual(await ask(sockets[2], "fetch", room), [[]]);
});
