// Ten thousand events each way at once, through the upgrade: in order, once each.
"use strict";

const { assert, ask, check, collect, mode, next, open, settled } = require("./client.js");

const COUNT = 10_000;
const SLICE = 50;
const UPGRADE_AT = 1_000; // begin the upgrade while numbers flow
const HOLD = 8_000; // past this many, wait for the upgrade: some must go over the new transport
const ROUNDS = Number(process.env.BROKER_SOAK ?? 3);

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Open a socket whose upgrade waits until it is told to begin. */
async function openOnPolling() {
  const socket = open();
  const { engine } = socket.io;
  const begun = new Promise((resolve) => {
    const probe = engine._probe?.bind(engine);
    engine._probe = (name) => resolve(() => probe(name));
  });
  await next(socket, "connect");
  return { socket, upgrade: async () => mode === "upgrade" && (await begun)() };
}

async function send(socket, upgrade) {
  for (let start = 0; start < COUNT; start += SLICE) {
    if (start === UPGRADE_AT) await upgrade();
    if (start >= HOLD) await settled(socket);
    for (let value = start; value < start + SLICE; value++) socket.emit("number", value);
    await turn();
  }
}

async function round() {
  const { socket, upgrade } = await openOnPolling();
  socket.on("disconnect", (reason) => reason !== "io client disconnect" && assert.fail(reason));
  const got = collect(socket, "number");
  const downwards = new Promise((resolve) => socket.emit("send_numbers", COUNT, SLICE, mode === "polling" ? COUNT : HOLD, resolve));
  await next(socket, "number");
  await send(socket, upgrade);
  const way = await downwards;
  const [server] = await ask(socket, "numbers", COUNT);
  assert.deepEqual(got.map(([value]) => value), Array.from({ length: COUNT }, (_, at) => at));
  assert.equal(server.in_order, true, JSON.stringify(server));
  const expected = mode === "upgrade" ? "polling to websocket" : `${mode} to ${mode}`;
  assert.equal(way, expected);
  if (mode === "upgrade") assert.deepEqual(Object.keys(server.transports).sort(), ["polling", "websocket"]);
  socket.disconnect();
}

for (let at = 1; at <= (mode === "upgrade" ? ROUNDS : 1); at++) check(`ten thousand events through the upgrade, round ${at}`, round);
