// Long-polling clients that exchange events, each request over a connection of its own if asked to:
//     node polling.js URL CLIENTS EVENTS new|kept
// Prints one line of JSON: acks that came, and what went wrong.
"use strict";

const http = require("node:http");
const path = require("node:path");
const { io } = require(path.join(__dirname, "..", "interop", "node_modules", "socket.io-client"));

const [url, clients, events, connections] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: connections === "kept" });
const said = { acks: 0, errors: [] };

function run() {
  return new Promise((resolve) => {
    const socket = io(url, { transports: ["polling"], forceNew: true, reconnection: false, agent });
    const fail = (what) => {
      said.errors.push(String(what));
      resolve();
    };
    socket.on("connect_error", (error) => fail(error.description?.message ?? error.message));
    socket.on("disconnect", (reason) => reason === "io client disconnect" || fail(reason));
    socket.on("connect", async () => {
      try {
        for (let number = 0; number < Number(events); number++) {
          const answer = await socket.timeout(10000).emitWithAck("echo", number);
          if (answer !== number) throw new Error(`${answer} for ${number}`);
          said.acks++;
        }
      } catch (error) {
        said.errors.push(error.message);
      }
      socket.disconnect();
      resolve();
    });
  });
}

Promise.all(Array.from({ length: Number(clients) }, run)).then(() => {
  console.log(JSON.stringify(said));
  process.exit(0);
});
