// Serves the benchmark's two events with Node's socket.io: node server.js PORT
"use strict";

const { createServer } = require("node:http");
const { Server } = require("socket.io");

const http = createServer();
const io = new Server(http, {
  transports: ["websocket"],
  perMessageDeflate: false, // the default, said aloud
  serveClient: false,
});

// The project's own advice for less memory: forget the handshake request.
io.engine.on("connection", (session) => {
  session.request = null;
});

io.on("connection", (socket) => {
  socket.on("echo", (data, acknowledge) => acknowledge(data));
  socket.on("pub", (data) => io.emit("msg", data));
});

http.listen(Number(process.argv[2]), "127.0.0.1", 4096);
