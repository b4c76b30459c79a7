// Sends numbered events, one after another, each until it is acknowledged, from several official clients; ends
// when its input does, and tells then what came of each client.
"use strict";

const { io } = require("socket.io-client");

const url = process.argv[2];
const modes = { polling: ["polling"], websocket: ["websocket"], upgrade: ["polling", "websocket"] };
const PAUSE = 2; // ms between an ack and the next event
let ending = false;
let acked = 0;

function run(name, transports) {
  return new Promise((resolve) => {
    const socket = io(url, {
      transports,
      forceNew: true,
      retries: 50,
      ackTimeout: 5000,
      reconnectionDelay: 100,
      reconnectionDelayMax: 300,
    });
    const told = { name, acked: 0, wrong: [], reasons: [], connects: 0 };
    let sent = 0;
    const next = () => {
      if (ending) {
        socket.disconnect();
        resolve(told);
        return;
      }
      const number = sent++;
      socket.emit("work", name, number, (error, answer) => {
        if (error || answer[0] !== name || answer[1] !== number) told.wrong.push([number, String(error), answer]);
        told.acked += 1;
        acked += 1;
        if (acked % 50 === 0) console.log(JSON.stringify({ acked }));
        setTimeout(next, PAUSE);
      });
    };
    socket.on("connect", () => {
      told.connects += 1;
      console.log(JSON.stringify({ connected: name }));
    });
    socket.on("disconnect", (reason) => told.reasons.push(reason));
    socket.on("connect_error", (error) => told.reasons.push(`connect_error: ${error.message}`));
    next();
  });
}

process.stdin.resume();
process.stdin.on("end", () => {
  ending = true;
});

const clients = [];
for (const [mode, transports] of Object.entries(modes)) {
  for (let index = 0; index < 2; index += 1) clients.push(run(`${mode}-${index}`, transports));
}
Promise.all(clients).then((told) => {
  console.log(JSON.stringify({ told }));
  process.exit(0);
});
