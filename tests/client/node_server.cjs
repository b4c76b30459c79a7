// The server that the client's tests run on Node: node node_server.cjs '{"port": 0, ...}'; says its port.
"use strict";

const { appendFileSync } = require("node:fs");
const { createServer } = require("node:http");
const { Server } = require("../interop/node_modules/socket.io");

const { port, record, options } = JSON.parse(process.argv[2]);
if (options.parser === "msgpack") options.parser = require("../interop/node_modules/socket.io-msgpack-parser");
const http = createServer();
const io = new Server(http, { serveClient: false, ...options });

function behave(socket) {
  socket.on("echo", (...args) => args.pop()(...args));
  socket.on("say", (...args) => socket.emit("said", ...args));
  socket.on("ask", (value) => socket.emit("question", value, (...answer) => socket.emit("answered", ...answer)));
  socket.on("silent", () => {});
  socket.on("leave", () => socket.disconnect());
  socket.on("kick", () => socket.disconnect(true));
  socket.on("cut", () => socket.conn.transport.close());
  socket.on("volatile", (text) => socket.volatile.emit("fleeting", text));
  socket.on("others", (...args) => socket.broadcast.emit("said", ...args));
  socket.on("handshake", (ack) => ack(socket.handshake.auth, socket.handshake.query, socket.handshake.headers));
  socket.on("garble", () => socket.conn.write("2[not json"));
  socket.on("record", (value, ack) => {
    appendFileSync(record, value + "\n");
    ack(value);
  });
}

io.on("connection", behave);
io.of("/chat").use((socket, next) => {
  if (socket.handshake.auth.token === "s3cret") return next();
  const error = new Error("invalid token");
  error.data = { retry: false };
  return next(error);
});
io.of("/chat").on("connection", behave);

http.listen(port, "127.0.0.1", () => console.log(http.address().port));
