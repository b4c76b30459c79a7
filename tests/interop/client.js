// What every topic needs: sockets over the transport under test, closed again, and promises for what arrives.
"use strict";

const assert = require("node:assert/strict");
const { test } = require("node:test");
const { io } = require("socket.io-client");

const brokers = {
  main: process.env.BROKER_MAIN,
  impatient: process.env.BROKER_IMPATIENT,
  narrow: process.env.BROKER_NARROW,
  msgpack: process.env.BROKER_MSGPACK,
  mortal: process.env.BROKER_MORTAL,
  recovering: process.env.BROKER_RECOVERING,
  recovering_msgpack: process.env.BROKER_RECOVERING_MSGPACK,
};
const mode = process.env.BROKER_TRANSPORT ?? "upgrade";
const transports = { polling: ["polling"], websocket: ["websocket"], upgrade: ["polling", "websocket"] }[mode];
const PATIENCE = 8000;

let opened = [];

/** Register a test; all sockets that it opens are closed when it ends. */
function check(name, body) {
  test(name, async (context) => {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`not done within ${2 * PATIENCE} ms`)), 2 * PATIENCE);
    });
    try {
      await Promise.race([body(context), late]);
    } finally {
      clearTimeout(timer);
      for (const socket of opened) socket.disconnect();
      opened = [];
    }
  });
}

/** Open a socket of its own connection, and do not wait for it. */
function open(namespace = "/", { broker = "main", ...options } = {}) {
  const socket = io(brokers[broker] + namespace, { transports, forceNew: true, ...options });
  opened.push(socket);
  return socket;
}

/** Open a socket and wait until it is connected. */
async function connect(namespace, options) {
  const socket = open(namespace, options);
  await next(socket, "connect");
  return socket;
}

/** Open one more namespace over the connection of another socket. */
async function join(socket, namespace, options = {}) {
  const other = socket.io.socket(namespace, options); // sends its CONNECT by itself
  opened.push(other);
  await next(other, "connect");
  return other;
}

/** Resolve to the arguments of the next event of that name; reject if it does not come. */
function next(emitter, event, patience = PATIENCE) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      emitter.off(event, listener);
      reject(new Error(`no ${event} within ${patience} ms`));
    }, patience);
    function listener(...args) {
      clearTimeout(timer);
      resolve(args);
    }
    emitter.once(event, listener);
  });
}

/** Resolve to all arguments of an ack. */
function ask(socket, event, ...args) {
  return new Promise((resolve, reject) => {
    socket.timeout(PATIENCE).emit(event, ...args, (error, ...values) => (error ? reject(error) : resolve(values)));
  });
}

/** Collect the arguments of every event of that name. */
function collect(socket, event) {
  const all = [];
  socket.on(event, (...args) => all.push(args));
  return all;
}

/** Wait until the connection is on the transport that it ends on. */
async function settled(socket) {
  const engine = socket.io.engine;
  if (mode === "upgrade" && engine.transport.name !== "websocket") await next(engine, "upgrade");
}

let last = 0;
/** Return a name that no other test uses. */
function fresh(prefix) {
  return `${prefix}-${process.pid}-${++last}`;
}

/** Wait. */
function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

module.exports = { assert, ask, brokers, check, collect, connect, fresh, join, mode, next, open, pause, settled, transports };
