// The official emitter: node emitter.cjs REDIS_PORT. Verbs as in server.cjs.
const { createInterface } = require("node:readline");
const { Emitter } = require("@socket.io/redis-emitter");
const { createClient } = require("redis");

const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");
const chosen = (emitter, rooms, excepted) => {
  let choice = emitter;
  for (const room of rooms) choice = choice.to(room);
  for (const room of excepted) choice = choice.except(room);
  return choice;
};
const verbs = {
  emit: (emitter, rooms, excepted, ...event) => void chosen(emitter, rooms, excepted).emit(...event),
  emit_binary: (emitter, event, bytes) => void emitter.emit(event, Buffer.from(bytes)),
  emit_chat: (emitter, ...event) => void emitter.of("/chat").emit(...event),
  join: (emitter, rooms, joined) => void emitter.in(rooms).socketsJoin(joined),
  leave: (emitter, rooms, left) => void emitter.in(rooms).socketsLeave(left),
  disconnect: (emitter, rooms, close) => void emitter.in(rooms).disconnectSockets(close),
  server_emit: (emitter, ...event) => void emitter.serverSideEmit(...event),
};

(async () => {
  const client = createClient({ url: `redis://127.0.0.1:${process.argv[2]}` });
  await client.connect();
  const emitter = new Emitter(client);
  say("ready");
  for await (const line of createInterface({ input: process.stdin })) {
    const [number, verb, ...args] = JSON.parse(line);
    try {
      verbs[verb](emitter, ...args);
      say([number, null, null]);
    } catch (error) {
      say([number, String(error), null]);
    }
  }
})();
