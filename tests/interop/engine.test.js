// The engine alone, with Socket.IO packets written by hand; and how it batches.
"use strict";

const { Socket: Engine } = require("engine.io-client");
const { assert, ask, brokers, check, collect, connect, mode, next, pause, settled, transports } = require("./client.js");

function engine(broker = "main", options = {}) {
  return new Engine(brokers[broker], { path: "/socket.io/", transports, ...options });
}

async function message(socket) {
  return (await next(socket, "message"))[0];
}

async function joined(socket) {
  await next(socket, "open");
  const answer = message(socket);
  socket.send("0");
  assert.match(await answer, /^0\{"sid":"[\w-]{20}"\}$/);
}

check("the handshake names what the settings say", async () => {
  const socket = engine();
  const [handshake] = await next(socket, "handshake");
  assert.deepEqual(
    { ...handshake, sid: handshake.sid.length },
    { sid: 20, upgrades: mode === "websocket" ? [] : ["websocket"], pingInterval: 25000, pingTimeout: 20000, maxPayload: 1000000 },
  );
  socket.close();
});

check("text and binary packets, written by hand", async () => {
  const socket = engine();
  socket.binaryType = "arraybuffer";
  await joined(socket);
  let answer = message(socket);
  socket.send('2["echo","grüße \u{1F600}"]');
  assert.equal(await answer, '2["echo","grüße \u{1F600}"]');
  const all = [];
  socket.on("message", (data) => all.push(data));
  socket.send('51-["echo",{"_placeholder":true,"num":0}]');
  socket.send(Buffer.from([0, 1, 255]));
  while (all.length < 2) await pause(5);
  assert.equal(all[0], '51-["echo",{"_placeholder":true,"num":0}]');
  assert.deepEqual([...new Uint8Array(all[1])], [0, 1, 255]);
  socket.close();
});

check("the upgrade moves the session, and the old transport is silent", async (context) => {
  if (mode !== "upgrade") return context.skip("only where there is an upgrade");
  const socket = engine();
  const upgraded = next(socket, "upgrade");
  await joined(socket);
  await upgraded;
  assert.equal(socket.transport.name, "websocket");
  const answer = message(socket);
  socket.send('21["ack","over websocket"]');
  assert.equal(await answer, '31["over websocket"]');
  const late = await fetch(`${brokers.main}/socket.io/?EIO=4&transport=polling&sid=${socket.id}`);
  assert.equal(late.status, 400);
  assert.deepEqual(await ask(await connect(), "ack", 1), [1]);
  socket.close();
});

check("the client closes", async () => {
  const socket = engine();
  await joined(socket);
  const closed = next(socket, "close");
  socket.close();
  assert.equal((await closed)[0], "forced close");
});

check("garbage ends the session", async () => {
  const socket = engine();
  await joined(socket);
  const closed = next(socket, "close");
  socket.send("9nonsense");
  await closed;
});

check("an id that is none", async () => {
  const answer = await fetch(`${brokers.main}/socket.io/?EIO=4&transport=polling&sid=nobody`);
  assert.equal(answer.status, 400);
  const { code, message: text } = await answer.json();
  assert.deepEqual({ code, text }, { code: 1, text: "Session ID unknown" });
});

check("the client keeps its batches below maxPayload", async () => {
  const socket = await connect("/", { broker: "narrow" });
  const back = collect(socket, "echo");
  for (let at = 0; at < 50; at++) socket.emit("echo", at, "x".repeat(300));
  while (back.length < 50) await pause(5);
  assert.deepEqual(back.map(([at]) => at), Array.from({ length: 50 }, (_, at) => at));
});

check("a payload that is too large: 413, or a closed WebSocket", async () => {
  const socket = await connect("/", { broker: "narrow", reconnection: false });
  await settled(socket);
  const told = next(socket, "disconnect");
  const { id } = socket;
  socket.emit("echo", "x".repeat(3000));
  assert.match((await told)[0], /transport (close|error)/);
  const witness = await connect();
  // A client that got a 413 tells nobody: its session ends by its close, or by the heartbeat.
  if (mode !== "polling") assert.equal((await ask(witness, "reason_of", id))[0], "transport error");
});

check("413 by hand", async () => {
  const opened = await (await fetch(`${brokers.narrow}/socket.io/?EIO=4&transport=polling`)).text();
  const { sid, maxPayload } = JSON.parse(opened.slice(1));
  assert.equal(maxPayload, 2000);
  const answer = await fetch(`${brokers.narrow}/socket.io/?EIO=4&transport=polling&sid=${sid}`, { method: "POST", body: "4".repeat(2001) });
  assert.equal(answer.status, 413);
});

check("more tiny packets in one payload than anyone sends by hand", async () => {
  const socket = await connect();
  socket.disconnect();
  for (let value = 0; value < 5000; value++) socket.emit("number", value);
  socket.connect();
  await next(socket, "connect");
  const [server] = await ask(socket, "numbers", 5000);
  assert.equal(server.in_order, true, JSON.stringify(server));
});
