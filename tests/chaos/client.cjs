// The official client under chaos: says on its standard output what it hears, a JSON line each.
"use strict";

const { io } = require("../interop/node_modules/socket.io-client");

const [url, transports] = process.argv.slice(2);
const socket = io(url, {
  transports: transports.split(","),
  reconnectionDelay: 30,
  reconnectionDelayMax: 100,
  timeout: 3000,
});
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

let number = 1;
let asking = false;

// One number after another, each until it is acknowledged.
function ask() {
  if (asking || !socket.connected) return;
  asking = true;
  const asked = number;
  socket.timeout(1000).emit("save", asked, (error) => {
    asking = false;
    if (!error) {
      say(["acked", asked]);
      number = asked + 1;
    }
    setTimeout(ask, 5);
  });
}

socket.on("connect", () => {
  say(["connect", socket.io.engine.transport.name]);
  socket.io.engine.once("upgrade", (transport) => say(["upgrade", transport.name])); // another engine each time
  asking = false;
  ask();
});
socket.on("disconnect", (reason) => say(["disconnect", reason]));
socket.on("number", (value) => say(["number", value]));
process.stdin.on("end", () => process.exit(0)).resume();
