// Connection state recovery: what a stock client gets back after its connection was lost.
"use strict";

const { assert, ask, check, collect, connect, fresh, mode, next, open, pause, settled } = require("./client.js");

const SLOWLY = { reconnectionDelay: 250, reconnectionDelayMax: 250, randomizationFactor: 0 };
const OFFSET = /^\d{13}-\d+$/;

/** Open a client that comes back by itself, and one that speaks to it meanwhile. */
async function pair(options = {}) {
  const broker = options.broker ?? "recovering";
  const socket = await connect("/", { ...SLOWLY, broker, ...options });
  const other = await connect("/", { broker, parser: options.parser });
  await settled(socket);
  await settled(other);
  return [socket, other];
}

function numbers(news) {
  return news.map((args) => {
    assert.match(args.at(-1), OFFSET);
    return args[0];
  });
}

check("comes back after the server has destroyed the transport", async () => {
  const [socket, other] = await pair();
  const { id } = socket;
  const room = fresh("room");
  await ask(socket, "join", room);
  const news = collect(socket, "news");
  await ask(other, "emit_to", [room], [], 1, "before");
  const lost = next(socket, "disconnect");
  socket.emit("drop_transport");
  await lost;
  await ask(other, "emit_to", [room], [], 2, "while away");
  await ask(other, "emit_to", [fresh("other")], [], "not for it");
  await ask(other, "emit_to", [], [room], "not for its room");
  await ask(other, "emit_to", [], [], 3, Buffer.from([1, 2, 3]), { deep: Buffer.from([4]) });
  await ask(other, "emit_to", [id], [], 4, "direct");
  const order = [];
  socket.on("news", () => order.push("news"));
  socket.on("connect", () => order.push("connect"));
  await next(socket, "connect");
  assert.equal(socket.recovered, true);
  assert.equal(socket.id, id);
  await ask(other, "emit_to", [room], [], 5, "back");
  await ask(socket, "ack");
  assert.deepEqual(numbers(news), [1, 2, 3, 4, 5]);
  assert.deepEqual([...news[2][1]], [1, 2, 3]);
  assert.deepEqual([...news[2][2].deep], [4]);
  assert.equal(order.filter((one) => one === "news").length, 4);
  assert.deepEqual((await ask(socket, "join"))[0], [room], "it is in its room");
});

check("an idle client comes back", async () => {
  const [socket, other] = await pair();
  const { id } = socket;
  const news = collect(socket, "news");
  const lost = next(socket, "disconnect");
  socket.emit("drop_transport");
  await lost;
  await ask(other, "emit_to", [id], [], "first");
  await next(socket, "connect");
  assert.equal(socket.recovered, true);
  assert.equal(socket.id, id);
  await ask(socket, "ack");
  assert.deepEqual(numbers(news), ["first"]);
});

check("comes back again and again, at once, by its own cut", async () => {
  const [socket, other] = await pair({ reconnectionDelay: 1, reconnectionDelayMax: 1 });
  const { id } = socket;
  const news = collect(socket, "news");
  for (let round = 0; round < 5; round++) {
    const connected = next(socket, "connect");
    socket.io.engine.close();
    await ask(other, "emit_to", [id], [], round);
    await connected;
    assert.equal(socket.recovered, true, `round ${round}`);
    assert.equal(socket.id, id);
    if (mode === "upgrade") await settled(socket);
  }
  await ask(socket, "ack");
  assert.deepEqual(numbers(news), [0, 1, 2, 3, 4]);
});

check("a volatile text does not spoil the offset", async () => {
  const [socket, other] = await pair();
  const { id } = socket;
  const news = collect(socket, "news");
  await ask(other, "emit_to", [id], [], "kept");
  const volatile = next(socket, "number");
  let verdicts;
  do {
    [verdicts] = await ask(socket, "volatile_flood", 1, "a text at the end");
  } while (!verdicts.QUEUED); // over polling it is dropped while no GET is open
  await volatile;
  socket.on("question", (text, answer) => answer(text));
  assert.deepEqual((await ask(socket, "ask_me", "a text"))[0], { answer: "a text" });
  const lost = next(socket, "disconnect");
  socket.emit("drop_transport");
  await lost;
  await ask(other, "emit_to", [id], [], "missed");
  await next(socket, "connect");
  assert.equal(socket.recovered, true);
  await ask(socket, "ack");
  assert.deepEqual(numbers(news), ["kept", "missed"]);
});

check("too late is a new socket, and the next loss is recovered from all the same", async () => {
  const [socket, other] = await pair({ reconnection: false });
  const { id } = socket;
  const news = collect(socket, "news");
  await ask(other, "emit_to", [id], [], "seen"); // its offset stays with the client
  const lost = next(socket, "disconnect");
  socket.emit("drop_transport");
  await lost;
  await ask(other, "emit_to", [id], [], "never seen");
  await pause(2300); // the window is 2 s
  socket.connect();
  await next(socket, "connect");
  assert.ok(!socket.recovered);
  assert.notEqual(socket.id, id);
  const again = socket.id;
  const lostAgain = next(socket, "disconnect");
  socket.emit("drop_transport");
  await lostAgain;
  await ask(other, "emit_to", [again], [], "missed");
  socket.connect();
  await next(socket, "connect");
  assert.equal(socket.recovered, true);
  assert.equal(socket.id, again);
  await ask(socket, "ack");
  assert.deepEqual(numbers(news), ["seen", "missed"]);
});

check("who leaves for good is not recovered", async () => {
  const [socket] = await pair();
  const { id } = socket;
  socket.disconnect();
  await pause(50);
  socket.connect();
  await next(socket, "connect");
  assert.ok(!socket.recovered);
  assert.notEqual(socket.id, id);
});

check("recovery with the msgpack parser", async () => {
  const parser = require("socket.io-msgpack-parser");
  const [socket, other] = await pair({ broker: "recovering_msgpack", parser });
  const { id } = socket;
  const news = collect(socket, "news");
  await ask(other, "emit_to", [id], [], "one");
  const lost = next(socket, "disconnect");
  socket.emit("drop_transport");
  await lost;
  await ask(other, "emit_to", [id], [], "two", Buffer.from([7]));
  await next(socket, "connect");
  assert.equal(socket.recovered, true);
  assert.equal(socket.id, id);
  await ask(socket, "ack");
  assert.deepEqual(numbers(news), ["one", "two"]);
  assert.deepEqual([...news[1][1]], [7]);
});
