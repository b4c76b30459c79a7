// The client fixture of the conformance kit with socket.io-client: node javascript.js URL TRANSPORTS
"use strict";

const path = require("node:path");
const { io } = require(require.resolve("socket.io-client", { paths: [path.join(__dirname, "../../interop")] }));

const [url, transports] = process.argv.slice(2);
const socket = io(url, { transports: transports.split(","), auth: { token: "123" } });
socket.on("message", (...args) => socket.emit("message-back", ...args));
socket.on("message-with-ack", (...args) => args.pop()(...args));
socket.on("ask", (...args) => socket.emit("question", ...args, (...answer) => socket.emit("answer", ...answer)));
socket.on("leave", () => socket.disconnect());
setTimeout(() => process.exit(), 60000);
