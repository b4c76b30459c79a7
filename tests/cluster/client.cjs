// Official clients: node client.cjs. Verbs come in as lines [number, verb, ...args] and are answered
// [number, error, value]. Each client keeps what it hears, and acks questions with its name.
const { createInterface } = require("node:readline");
const { io } = require("socket.io-client");

const clients = {};
const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");
const plain = (value) => (Buffer.isBuffer(value) ? { $hex: value.toString("hex") } : value);

const until = (holds) =>
  new Promise((done, fail) => {
    const end = Date.now() + 8000;
    const look = () => (holds() ? done() : Date.now() > end ? fail(new Error("not in time")) : setTimeout(look, 5));
    look();
  });

const verbs = {
  open: async (name, url, options = {}) => {
    const socket = io(url, { transports: ["websocket"], forceNew: true, ...options });
    const client = (clients[name] = { socket, heard: [], connects: 0 });
    socket.on("connect", () => client.connects++);
    socket.on("disconnect", (reason) => client.heard.push(["disconnected", reason]));
    socket.onAny((event, ...args) => {
      if (typeof args.at(-1) === "function") args.pop()(`${name} says ${event}`);
      else client.heard.push([event, ...args.map(plain)]);
    });
    await until(() => socket.connected);
    return socket.id;
  },
  // Waits until the client has heard this event, then returns all it has heard, and forgets it.
  heard: async (name, last) => {
    const client = clients[name];
    await until(() => client.heard.some((one) => JSON.stringify(one) === JSON.stringify(last)));
    return client.heard.splice(0);
  },
  // The same for an event of this name, whatever it says.
  heardOf: async (name, event) => {
    const client = clients[name];
    await until(() => client.heard.some((one) => one[0] === event));
    return client.heard.splice(0);
  },
  state: (name) => [clients[name].socket.recovered, clients[name].connects, clients[name].socket.id],
  count: (name) => clients[name].heard.length,
  call: (name, ...event) => clients[name].socket.timeout(5000).emitWithAck(...event),
  emit: (name, ...event) => void clients[name].socket.emit(...event) || null,
  close: (name) => void clients[name].socket.close() || null,
};

say("ready");
(async () => {
  for await (const line of createInterface({ input: process.stdin })) {
    const [number, verb, ...args] = JSON.parse(line);
    try {
      say([number, null, (await verbs[verb](...args)) ?? null]);
    } catch (error) {
      say([number, String(error), null]);
    }
  }
  process.exit(0);
})();
