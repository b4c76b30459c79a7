// Official clients that follow numbered events: node followers.cjs CLIENTS URL...
// A line of input is answered with what they have heard up to a number: {"last": N}.
const { createInterface } = require("node:readline");
const { io } = require("socket.io-client");

const [count, ...urls] = process.argv.slice(2);
const clients = [];

function follow() {
  const socket = io(urls[0], { transports: ["websocket"], forceNew: true });
  const client = { heard: [], recovered: 0, losses: 0, socket };
  // As behind a load balancer: another node, if one has refused.
  socket.io.on("reconnect_error", () => {
    socket.io.uri = urls[(urls.indexOf(socket.io.uri) + 1) % urls.length];
  });
  socket.on("connect", () => (client.recovered += socket.recovered ? 1 : 0));
  socket.on("disconnect", () => client.losses++);
  socket.on("n", (number) => client.heard.push(number));
  clients.push(client);
  return new Promise((done) => socket.once("connect", done));
}

function told(last) {
  let missed = 0;
  let doubled = 0;
  for (const { heard } of clients) {
    const kept = heard.filter((number) => number <= last);
    const seen = new Set(kept);
    missed += last - heard[0] + 1 - seen.size;
    doubled += kept.length - seen.size;
  }
  const sum = (name) => clients.reduce((all, client) => all + client[name], 0);
  const back = clients.filter((client) => client.losses && client.socket.connected).length;
  return { missed, doubled, back, lost: sum("losses"), recovered: sum("recovered") };
}

(async () => {
  for (let number = 0; number < Number(count); number++) await follow();
  console.log(JSON.stringify({ port: 0 }));
  for await (const line of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(told(JSON.parse(line).last)));
  }
  process.exit(0);
})();
