// How connections end, what both sides are told, and how clients come back.
"use strict";

const { assert, ask, brokers, check, collect, connect, join, mode, next, open, pause, settled } = require("./client.js");

const QUICKLY = { reconnectionDelay: 10, reconnectionDelayMax: 20, randomizationFactor: 0 };

async function reasonOf(id, broker = "main") {
  const witness = await connect("/", { broker });
  return (await ask(witness, "reason_of", id))[0];
}

check("the client leaves a namespace", async () => {
  const socket = await connect();
  const other = await join(socket, "/static");
  const { id } = other;
  const told = next(other, "disconnect");
  other.disconnect();
  assert.equal((await told)[0], "io client disconnect");
  assert.equal(await reasonOf(id), "client namespace disconnect");
  assert.equal(socket.connected, true);
});

check("the client leaves its last namespace and with it the connection", async () => {
  const socket = await connect();
  await settled(socket);
  const { id } = socket;
  socket.disconnect();
  assert.match(await reasonOf(id), /client namespace disconnect|transport close/);
});

check("the server sends a socket away: it does not come back by itself", async () => {
  const socket = await connect("/", QUICKLY);
  const { id } = socket;
  const told = next(socket, "disconnect");
  socket.emit("kick", false);
  assert.equal((await told)[0], "io server disconnect");
  assert.equal(await reasonOf(id), "server namespace disconnect");
  await pause(60);
  assert.equal(socket.connected, false);
  socket.connect();
  await next(socket, "connect");
  assert.notEqual(socket.id, id);
});

check("the server closes the whole connection", async () => {
  const socket = await connect();
  const other = await join(socket, "/static");
  const ids = [socket.id, other.id];
  const told = [next(socket, "disconnect"), next(other, "disconnect")];
  socket.emit("kick", true);
  assert.deepEqual((await Promise.all(told)).map(([reason]) => reason), ["io server disconnect", "io server disconnect"]);
  for (const id of ids) assert.equal(await reasonOf(id), "server namespace disconnect");
});

check("the server drops the transport: the client comes back and sends what it kept", async () => {
  const socket = await connect("/", QUICKLY);
  await settled(socket);
  const { id } = socket;
  const told = next(socket, "disconnect");
  socket.emit("drop_transport");
  assert.equal((await told)[0], "transport close");
  const back = collect(socket, "echo");
  socket.emit("echo", "kept");
  await next(socket, "connect");
  assert.notEqual(socket.id, id);
  await ask(socket, "ack");
  assert.deepEqual(back, [["kept"]]);
  assert.equal(await reasonOf(id), "forced close");
});

check("the client's connection is cut", async () => {
  const socket = await connect("/", QUICKLY);
  await settled(socket);
  const { id } = socket;
  const told = next(socket, "disconnect");
  socket.io.engine.close();
  assert.match((await told)[0], /forced close|transport close/);
  assert.equal(await reasonOf(id), "transport close");
});

check("the client falls silent: ping timeout at the server", async () => {
  const socket = await connect("/", { broker: "impatient", reconnection: false });
  await settled(socket);
  const { id, io: { engine } } = socket;
  const send = engine._sendPacket.bind(engine);
  engine._sendPacket = (type, ...rest) => (type === "pong" ? undefined : send(type, ...rest));
  const [reason] = await next(socket, "disconnect");
  assert.equal(reason, "transport close");
  assert.equal(await reasonOf(id), "ping timeout");
});

check("the server falls silent: ping timeout at the client, which comes back", async () => {
  const socket = await connect("/", { broker: "impatient", ...QUICKLY });
  await settled(socket);
  const { id } = socket;
  const told = next(socket, "disconnect");
  socket.emit("fall_silent");
  assert.equal((await told)[0], "ping timeout");
  await next(socket, "connect");
  assert.match(await reasonOf(id), /transport (close|error)/);
});

check("heartbeats keep a quiet connection alive", async () => {
  const socket = await connect("/", { broker: "impatient" });
  await settled(socket);
  let pings = 0;
  socket.io.on("ping", () => pings++);
  socket.on("disconnect", (reason) => assert.fail(reason));
  await next(socket.io, "ping");
  await next(socket.io, "ping");
  await next(socket.io, "ping");
  assert.deepEqual(await ask(socket, "ack", "alive"), ["alive"]);
  socket.off("disconnect");
});

check("the server restarts on the same port", async () => {
  const socket = await connect("/", { broker: "mortal", ...QUICKLY });
  const other = await join(socket, "/static");
  await settled(socket);
  const { id } = socket;
  const told = Promise.all([next(socket, "disconnect"), next(other, "disconnect")]);
  const attempts = collect(socket.io, "reconnect_attempt");
  const again = Promise.all([next(socket, "connect"), next(other, "connect")]);
  const restarted = fetch(`${brokers.main}/restart?pause=0.1`, { method: "POST" });
  for (const [reason] of await told) assert.equal(reason, "transport close");
  socket.emit("number", 0);
  await again;
  await restarted;
  assert.ok(attempts.length >= 1);
  assert.notEqual(socket.id, id);
  assert.deepEqual(await ask(other, "ack", "there"), ["there"]);
  assert.equal((await ask(socket, "numbers", 1))[0].in_order, true, "what was emitted meanwhile has arrived");
  assert.equal(await reasonOf(id), "server shutting down");
});

check("the retries option: an event goes until it is acked, and keeps order", async () => {
  const socket = await connect("/", { retries: 5, ackTimeout: 150 });
  const key = socket.id;
  const first = new Promise((resolve) => socket.emit("third_time", key, (error, value) => resolve([error, value])));
  const second = new Promise((resolve) => socket.emit("ack", "second", (error, value) => resolve([error, value])));
  assert.deepEqual(await Promise.race([first, second]), [null, 3]);
  assert.deepEqual(await second, [null, "second"]);
});

check("retries over a lost connection", async () => {
  const socket = await connect("/", { retries: 10, ackTimeout: 300, ...QUICKLY });
  await settled(socket);
  const told = next(socket, "disconnect");
  const order = [];
  const first = socket.emitWithAck("slow", 0.1, 1).then((value) => order.push(value));
  const second = socket.emitWithAck("ack", 2).then((value) => order.push(value));
  const breaker = await connect();
  breaker.emit("drop_transport_of", socket.id);
  await told;
  await Promise.all([first, second]);
  assert.deepEqual(order, [1, 2]);
});

check("an ack that is owed fails when the connection goes", async () => {
  const socket = await connect("/", { reconnection: false });
  await settled(socket);
  const owed = socket.timeout(5000).emitWithAck("never");
  socket.emit("drop_transport");
  await assert.rejects(owed, /socket has been disconnected/);
});

check("a client that gives up while it connects leaves nothing", async () => {
  const socket = open();
  socket.disconnect();
  const another = await connect();
  assert.deepEqual(await ask(another, "ack", 1), [1]);
  assert.equal(socket.connected, false);
  assert.ok(mode);
});

check("a client whose proof has expired comes back by itself with a new one", async () => {
  let proofs = 0;
  const auth = (give) => give({ seconds: (proofs += 1) === 1 ? 0.4 : 60 });
  const socket = await connect("/expiring", { auth, ...QUICKLY });
  const [reason] = await next(socket, "disconnect");
  assert.equal(reason, "transport close");
  await next(socket, "connect");
  assert.equal(proofs, 2);
});

check("a client that sends a new proof in time stays", async () => {
  const socket = await connect("/expiring", { auth: { seconds: 0.4 }, ...QUICKLY });
  const told = collect(socket, "disconnect");
  assert.deepEqual(await ask(socket, "refresh", 60), []);
  await pause(600);
  assert.deepEqual(told, []);
});

check("a client that comes with an expired proof is told so and stays away", async () => {
  const socket = open("/expiring", { auth: { seconds: -1 }, ...QUICKLY });
  const [error] = await next(socket, "connect_error");
  assert.deepEqual([error.message, error.data], ["identity expired", { code: "identity_expired" }]);
  assert.equal(socket.active, false);
});
