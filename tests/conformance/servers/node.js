// The conformance fixture with socket.io for Node: prints its URL, serves until standard input ends.
"use strict";

const http = require("node:http");
const path = require("node:path");
const { Server } = require(require.resolve("socket.io", { paths: [path.join(__dirname, "../../interop")] }));

const PARTS = ["broadcast", "broadcast-call", "burst", "call", "guarded", "handshake", "kick", "reasons", "slow",
  "slow-echo", "volatile"];
const BASE = { pingInterval: 300, pingTimeout: 200, connectTimeout: 1000, maxHttpBufferSize: 1e6 };
const SERVERS = {
  main: { cors: { origin: "*" } },
  strict: {
    allowRequest: (request, callback) =>
      request.headers["x-refuse"] ? callback(request.headers["x-refuse"], false) : callback(null, true),
  },
  listed: { cors: { origin: ["https://app.example"], credentials: true }, cookie: { name: "io", sameSite: "lax" } },
};
const urls = {};

function serve(name, options) {
  // Engine.IO leaves other paths to what was there before it; with nothing there, they would wait for ever.
  const server = http.createServer((request, response) => response.writeHead(404).end());
  const io = new Server(server, { ...BASE, ...options });
  const reasons = new Map();
  for (const namespace of ["/", "/custom", "/slow", "/guarded"]) {
    io.of(namespace).on("connection", (socket) => base(socket, reasons));
  }
  io.of("/slow").use((socket, next) =>
    setTimeout(() => next(socket.handshake.auth.refuse ? new Error("refused") : undefined), 100));
  io.of("/guarded").use((socket, next) => {
    if (socket.handshake.auth.token === "s3cret") return next();
    next(Object.assign(new Error("invalid token"), { data: { retry: false } }));
  });
  io.on("connection", (socket) => parts(io, socket, reasons));
  return new Promise((done) => server.listen(0, "127.0.0.1", () => {
    urls[name] = `http://127.0.0.1:${server.address().port}`;
    done();
  }));
}

function base(socket, reasons) {
  socket.emit("auth", socket.handshake.auth);
  socket.on("message", (...args) => socket.emit("message-back", ...args));
  socket.on("message-with-ack", (...args) => {
    const ack = args.pop();
    if (typeof ack === "function") ack(...args);
  });
  socket.on("kick", (close) => socket.disconnect(close));
  socket.on("disconnect", (reason) => reasons.set(socket.id, reason));
}

function parts(io, socket, reasons) {
  const { main, ...also } = urls;
  socket.on("conformance", (ack) => ack({ parts: PARTS, also }));
  socket.on("reason-of", (id, ack) => ack(reasons.get(id) ?? null));
  socket.on("handshake", (ack) =>
    ack({ fruit: socket.handshake.query.fruit, header: socket.handshake.headers["x-fruit"] }));
  socket.on("burst", (count) => { for (let n = 0; n < count; n += 1) socket.emit("number", n); });
  socket.on("letters", (size) => socket.emit("letters", "x".repeat(size)));
  socket.on("volatile", (...args) => socket.volatile.emit("volatile-back", ...args));
  socket.on("join", (room) => socket.join(room));
  socket.on("shout", (...args) => io.to("watchers").emit("shouted", ...args));
  socket.on("slow-echo", (milliseconds, ...args) => setTimeout(() => {
    const ack = typeof args.at(-1) === "function" ? args.pop() : () => {};
    socket.emit("slow-back", ...args);
    ack(...args);
  }, milliseconds));
  const ask = (...args) => socket.emit("question", ...args, (...answer) =>
    socket.emit("answer", ...(Buffer.isBuffer(answer[0]) ? answer : [answer])));
  socket.on("ask-me", ask);
  socket.on("ask-me-beside", ask);
  socket.on("ask-me-briefly", () => socket.timeout(100).emit("question", (error) => {
    if (error) socket.emit("no-answer");
  }));
  socket.on("ask-me-tell-all", (name) => socket.timeout(20000).emit("question", (error) => {
    if (error) io.to("watchers").emit("shouted", `${name} gone`);
  }));
  socket.on("ask-room", (room) => io.to(room).timeout(3000).emit("question", (error, answers) =>
    socket.emit("answers", answers)));
}

(async () => {
  for (const [name, options] of Object.entries(SERVERS)) await serve(name, options);
  console.log(urls.main);
  process.stdin.resume();
  process.stdin.on("end", () => process.exit());
})();
