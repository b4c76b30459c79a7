// A test of a JavaScript client against a broker of the harness: node --test harness.test.mjs
import assert from "node:assert/strict";
import { once } from "node:events";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";

// SOCKET_IO_FROM names a folder with the packages, where they are not beside this file.
const require = createRequire(process.env.SOCKET_IO_FROM ?? import.meta.url);
const { io } = require("socket.io-client");

const control = io(process.env.HARNESS_URL, { transports: ["websocket"] });
const verb = async (name, given) => {
  const answer = await control.timeout(5_000).emitWithAck(name, given);
  if (answer?.error) throw new Error(answer.error.message);
  return answer;
};

let broker;

before(async () => {
  await once(control, "connect");
  broker = await verb("start", {
    settings: { ping_interval: 0.2, ping_timeout: 0.2 },
    rules: [
      { event: "greet", answer: ["hello"], broadcast: ["greeted"] },
      { event: "slow", delay: 0.1, answer: ["at last"] },
      { event: "secret", refuse: { code: "forbidden", message: "not for you" } },
      { event: "leave", disconnect: true },
      { event: "connect", namespace: "/closed", refuse: { message: "closed", data: { until: "noon" } } },
    ],
  });
});

after(async () => {
  await verb("stop", { id: broker.id });
  control.disconnect();
});

const client = async (t, namespace = "") => {
  const socket = io(broker.url + namespace, { forceNew: true, reconnectionDelay: 20, randomizationFactor: 0 });
  t.after(() => socket.disconnect());
  if (!namespace) await once(socket, "connect");
  return socket;
};

test("rules answer, delay and refuse", async (t) => {
  const socket = await client(t);
  const greeted = once(socket, "greeted");
  assert.equal(await socket.emitWithAck("greet"), "hello");
  await greeted;
  assert.equal(await socket.emitWithAck("slow"), "at last");
  assert.equal((await socket.emitWithAck("secret")).error.code, "forbidden");
});

test("a namespace refuses", async (t) => {
  const socket = await client(t, "/closed");
  const [error] = await once(socket, "connect_error");
  assert.equal(error.message, "closed");
  assert.deepEqual(error.data, { until: "noon" });
});

test("the server ends it, and the client stays away", async (t) => {
  const socket = await client(t);
  socket.emit("leave");
  assert.equal((await once(socket, "disconnect"))[0], "io server disconnect");
});

test("the client outlives a cut connection", async (t) => {
  const socket = await client(t);
  const lost = once(socket, "disconnect");
  const back = lost.then(() => once(socket, "connect"));
  await verb("fault", { id: broker.id, verb: "cut" });
  assert.match((await lost)[0], /^transport (close|error)$/);
  await back;
  assert.equal(await socket.emitWithAck("greet"), "hello");
});

test("a client that hears nothing gives up", async (t) => {
  const socket = await client(t);
  const lost = once(socket, "disconnect");
  await verb("fault", { id: broker.id, verb: "partition" });
  assert.equal((await lost)[0], "ping timeout");
  await verb("fault", { id: broker.id, verb: "heal" });
  await once(socket, "connect");
});

test("what went over the wire can be read", async (t) => {
  const socket = await client(t);
  await socket.emitWithAck("greet");
  const lines = await verb("transcript", { id: broker.id });
  assert.ok(lines.some((line) => line.mark === "<" && /42\d*\["greet"\]/.test(line.text)));
  assert.ok(lines.some((line) => line.mark === ">" && /43\d*\["hello"\]/.test(line.text)));
  await assert.rejects(verb("fault", { id: broker.id, verb: "earthquake" }), /there is no fault/);
});
