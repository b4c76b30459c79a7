// A server to be judged by the conformance kit, here with socket.io for Node.
//
// npm install socket.io; node server.js [PORT]
// Put your own implementation in the place of socket.io; what the kit asks for is marked by numbers.
"use strict";

const http = require("node:http");
const { Server } = require("socket.io");

// Requests for other paths come here, and are answered too: "not found" will do.
const listener = http.createServer((request, response) => response.writeHead(404).end());

// 1. Short times, so that a run takes seconds; the kit reads them from the OPEN packet. Every origin is allowed.
const io = new Server(listener, {
  pingInterval: 300,
  pingTimeout: 200,
  connectTimeout: 1000,
  maxHttpBufferSize: 1e6,
  cors: { origin: "*" },
});

for (const name of ["/", "/custom"]) {
  io.of(name).on("connection", (socket) => {
    // 2. The client is shown its auth object.
    socket.emit("auth", socket.handshake.auth);
    // 3. An echo: whatever came, bytes too, under another name.
    socket.on("message", (...args) => socket.emit("message-back", ...args));
    // 4. An echo in the acknowledgement.
    socket.on("message-with-ack", (...args) => {
      const acknowledge = args.pop();
      if (typeof acknowledge === "function") acknowledge(...args);
    });
  });
}

io.on("connection", (socket) => {
  // 5. Optional: what else there is. Cases that need more are skipped, and the report says what they need.
  socket.on("conformance", (acknowledge) => acknowledge({ parts: ["burst"], also: {} }));
  // 6. One of the optional parts: many events at once, which must come in order.
  socket.on("burst", (count) => {
    for (let number = 0; number < count; number += 1) socket.emit("number", number);
  });
});

listener.listen(Number(process.argv[2] ?? 3000), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${listener.address().port}`);
});
