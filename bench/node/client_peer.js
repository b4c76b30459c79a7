// What the clients are measured against: node client_peer.js PORT
"use strict";

const { createServer } = require("node:http");
const { Server } = require("socket.io");

const CHUNK = 200;
const http = createServer();
const io = new Server(http, { transports: ["websocket"], perMessageDeflate: false, serveClient: false });

io.on("connection", (socket) => {
  let counted = 0;

  socket.on("flood", (count, payload) => {
    function chunk() {
      for (let left = Math.min(CHUNK, count); left > 0; left--, count--) socket.emit("tick", payload);
      if (count > 0) socket.conn.writeBuffer.length ? socket.conn.once("drain", chunk) : setImmediate(chunk);
    }
    chunk();
  });
  socket.on("count", () => {
    counted++;
  });
  socket.on("total", (acknowledge) => {
    acknowledge(counted);
    counted = 0;
  });
  socket.on("echo", (data, acknowledge) => acknowledge(data));
});

http.listen(Number(process.argv[2]), "127.0.0.1");
