// A Socket.IO server on Node that takes part in a cluster: node server.cjs MODE REDIS_PORT NAME [recovery].
// Verbs come in as lines [number, verb, ...args] and are answered [number, error, value].
const { createServer } = require("node:http");
const { createInterface } = require("node:readline");
const { Server } = require("socket.io");
const { createClient } = require("redis");

const [mode, redisPort, name, recovery] = process.argv.slice(2);
const say = (value) => process.stdout.write(JSON.stringify(value ?? null) + "\n");

async function adapter() {
  const client = createClient({ url: `redis://127.0.0.1:${redisPort}` });
  client.on("error", () => {});
  await client.connect();
  if (mode === "streams") {
    return require("@socket.io/redis-streams-adapter").createAdapter(client);
  }
  const { createAdapter, createShardedAdapter } = require("@socket.io/redis-adapter");
  const sub = client.duplicate();
  sub.on("error", () => {});
  await sub.connect();
  return mode === "sharded" ? createShardedAdapter(client, sub) : createAdapter(client, sub);
}

const chosen = (io, rooms, excepted) => {
  let choice = io.timeout(5000);
  for (const room of rooms) choice = choice.to(room);
  for (const room of excepted) choice = choice.except(room);
  return choice;
};

const verbs = {
  emit: (io, rooms, excepted, ...event) => void chosen(io, rooms, excepted).emit(...event) || 0,
  emit_binary: (io, rooms, excepted, event, bytes) =>
    void chosen(io, rooms, excepted).emit(event, Buffer.from(bytes)) || 0,
  emit_chat: (io, ...event) => void io.of("/chat").emit(...event) || 0,
  fetch: async (io, rooms, excepted) =>
    (await chosen(io, rooms, excepted).fetchSockets()).map((one) => [one.id, [...one.rooms], one.data]),
  join: (io, rooms, excepted, joined) => chosen(io, rooms, excepted).socketsJoin(joined),
  leave: (io, rooms, excepted, left) => chosen(io, rooms, excepted).socketsLeave(left),
  disconnect: (io, rooms, excepted, close) => chosen(io, rooms, excepted).disconnectSockets(close),
  call: (io, rooms, excepted, ...event) => chosen(io, rooms, excepted).emitWithAck(...event),
  server_emit: (io, ...event) => void io.serverSideEmit(...event) || [],
  server_call: (io, ...event) => io.serverSideEmitWithAck(...event),
  count: (io) => io.of("/").adapter.serverCount(),
};

async function main() {
  const http = createServer();
  const options = { adapter: await adapter(), cors: { origin: "*" } };
  if (recovery) options.connectionStateRecovery = {};
  const io = new Server(http, options);
  io.of("/chat");
  io.on("connection", (socket) => {
    // For bench/cluster: clients that ask for it in their address follow what others publish.
    if (socket.handshake.query.follow) socket.join("followers");
    socket.on("pub", (text) => io.to("followers").emit("n", text));
    socket.on("join", (...args) => {
      const answer = args.pop();
      socket.join(args);
      answer("joined");
    });
  });
  io.on("question", (value, answer) => answer({ from: name, got: value }));
  io.on("note", (value) => io.local.emit("noted", name, value));
  // The adapters do not say when they are subscribed, and a stream is read from the moment of the first read.
  await new Promise((done) => setTimeout(done, 150));
  http.listen(0, "127.0.0.1", () => say({ port: http.address().port }));
  for await (const line of createInterface({ input: process.stdin })) {
    const [number, verb, ...args] = JSON.parse(line);
    try {
      say([number, null, (await verbs[verb](io, ...args)) ?? null]);
    } catch (error) {
      say([number, String(error), null]);
    }
  }
}

main();
