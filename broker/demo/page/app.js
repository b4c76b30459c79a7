// The chat: one Socket.IO connection, the room it is in, and the conversations beside it.

import { fill } from "./list.js";
import { Log, element, paintAvatar } from "./log.js";
import { Outbox } from "./outbox.js";
import { closePanels } from "./panels.js";

const ACK_TIMEOUT_MS = 8_000;
const TYPING_EVERY_MS = 2_000;
const TYPING_SHOWN_MS = 4_000;
const FIRST_ROOM = "Lobby";
const MAX_TEXT = 1000;
const MAX_KEPT = 400;
const STORE = "trio-chat";

const $ = (id) => document.getElementById(id);
if (!globalThis.io) {
  $("join-error").textContent = "This server has no Socket.IO client to give out. Run “make bundle” where it was started.";
  $("join-button").disabled = true;
  throw new Error("socket.io.js is missing");
}
const socket = io({ autoConnect: false, reconnectionDelayMax: 4_000 });
const log = new Log($("log"), $("scroller"), $("to-end"), (entry) => outbox.add(entry));
const outbox = new Outbox({ ask, room: () => (joined ? me.room : null), changed: (entry) => log.update(entry) });

let me = load(); // { name, seat, room }, kept for this tab so that a reload comes back
let joined = false;
let joining = false;
let people = {}; // room -> names
let lines = []; // what the room shows
let talkingTo = null; // the person of the private conversation on screen, or null for the room
const conversations = new Map(); // name -> { lines, unread }
const typists = new Map(); // name -> timer
let typingSentAt = 0;
let missed = 0; // lines that came while the page was hidden

// ---- the connection --------------------------------------------------------------------------

socket.on("connect", join);
socket.on("connect_error", () => showConnection(joining ? "Cannot reach the server, trying again…" : "Reconnecting…"));
socket.on("disconnect", (reason) => {
  joined = false;
  clearTypists();
  if (!me) return;
  const ended = reason === "io server disconnect"; // the library does not come back from this one
  showConnection(ended ? "Disconnected: you joined from another tab" : "Reconnecting…", ended);
});
// A page that is left may live on, frozen, in the browser's back/forward cache: let go, and come back.
addEventListener("pagehide", () => socket.disconnect());
addEventListener("pageshow", (event) => event.persisted && me && socket.connect());
addEventListener("online", () => me && !socket.connected && socket.disconnect().connect());

socket.on("people", (snapshot) => { people = snapshot; drawPeople(); });
socket.on("message", (line) => { stopTypist(line.name); receive(line); });
socket.on("joined", (name, at) => note(`${name} joined`, at));
socket.on("left", (name, at) => { stopTypist(name); note(`${name} left`, at); });
socket.on("note", note);
socket.on("typing", (name, active) => (active ? startTypist(name) : stopTypist(name)));
socket.on("private", (line, ack) => { receivePrivate(line); ack("ok"); });

/** Ask the server and return its answer, or { error } with code "lost" if there is none. */
async function ask(event, ...args) {
  try {
    return (await socket.timeout(ACK_TIMEOUT_MS).emitWithAck(event, ...args)) ?? {};
  } catch {
    return { error: { code: "lost", message: "No answer from the server" } };
  }
}

function showTransport() {
  const { engine } = socket.io;
  $("status").title = engine.transport.name;
  engine.once("upgrade", (transport) => { $("status").title = transport.name; });
}

async function join() {
  showTransport();
  if (!me) return;
  const answer = await ask("join", me.name, me.seat, me.room);
  const code = answer.error?.code;
  if (code === "rooms_full" || code === "bad_room") {
    me.room = FIRST_ROOM;
    return join();
  }
  if (code === "lost" || code === "already_joined") {
    // Half joined is nothing to build on: begin again on a fresh connection.
    if (socket.connected) socket.disconnect().connect();
    return;
  }
  if (answer.error) return refused(answer.error.message);
  me.name = answer.name;
  joined = true;
  joining = false;
  showConnection(null);
  $("room-error").textContent = "";
  enter();
  showRoom(answer);
  outbox.flush();
}

function refused(message) {
  socket.disconnect();
  me = null;
  joining = false;
  sessionStorage.removeItem(STORE);
  $("chat").hidden = true;
  $("entrance").hidden = false;
  $("join-error").textContent = message;
  $("join-button").disabled = false;
  $("name").setAttribute("aria-invalid", "true");
  $("name").select();
}

function showConnection(trouble, ended = false) {
  $("chat").classList.toggle("offline", trouble !== null);
  $("status").textContent = trouble === null ? "Connected" : ended ? "Disconnected" : "Reconnecting…";
  $("join-error").textContent = joining && trouble ? trouble : "";
  const kept = "Connection lost. What you write is kept and sent when it is back.";
  $("banner").textContent = trouble === null ? "" : ended ? trouble : kept;
  if (!ended) return;
  const button = element("button", "link", "Continue here");
  button.type = "button";
  button.addEventListener("click", () => socket.connect());
  $("banner").append(" ", button);
}

// ---- coming and going ------------------------------------------------------------------------

function load() {
  try {
    return JSON.parse(sessionStorage.getItem(STORE));
  } catch {
    return null;
  }
}

function save() {
  sessionStorage.setItem(STORE, JSON.stringify(me));
}

/** Make an unguessable key; crypto.randomUUID is missing on plain-HTTP pages of a local network. */
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

$("join-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = $("name").value.trim();
  if (!name) {
    $("join-error").textContent = "Please enter a name";
    $("name").focus();
    return;
  }
  me = { name, seat: newKey(), room: FIRST_ROOM };
  joining = true;
  $("join-error").textContent = "";
  $("name").removeAttribute("aria-invalid");
  $("join-button").disabled = true;
  socket.connect();
});

$("leave").addEventListener("click", () => {
  sessionStorage.removeItem(STORE);
  socket.disconnect();
  location.reload();
});

function enter() {
  save();
  const coming = !$("entrance").hidden;
  $("entrance").hidden = true;
  $("chat").hidden = false;
  $("my-name").textContent = me.name;
  paintAvatar($("my-avatar"), me.name);
  if (coming) focusTalk();
}

/** Go where one writes; on a touch screen, whose keyboard would cover half of it, to the heading. */
function focusTalk() {
  $(matchMedia("(pointer: coarse)").matches ? "place" : "text").focus();
}

function showRoom(answer) {
  const moved = me.room !== answer.room;
  me.room = answer.room;
  save();
  people = answer.people;
  clearTypists();
  lines = answer.history.map((line) => asEntry(line));
  const known = new Set(lines.map((line) => line.key));
  lines.push(...outbox.waitingFor(me.room).filter((entry) => !known.has(entry.key)));
  if (moved || talkingTo === null) draw();
  drawPeople();
}

/** Return whether it worked; if not, the reason is shown below the rooms. */
async function switchRoom(name) {
  stopTyping();
  const answer = joined ? await ask("switch", name) : { error: { message: "Wait until the connection is back" } };
  $("room-error").textContent = answer.error?.message ?? "";
  if (answer.error) return false;
  talkingTo = null;
  showRoom(answer);
  draw();
  outbox.flush();
  closePanels();
  return true;
}

$("room-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = $("new-room").value.trim();
  if (name && (await switchRoom(name))) $("new-room").value = "";
});

// ---- lines -----------------------------------------------------------------------------------

function asEntry(line) {
  return { ...line, own: line.name === me.name };
}

function keep(kept, entry) {
  kept.push(entry);
  if (kept.length > MAX_KEPT) kept.shift();
}

function receive(line) {
  if (lines.some((known) => known.key === line.key)) return;
  const entry = asEntry(line);
  keep(lines, entry);
  if (talkingTo === null) log.add(entry);
  countMissed();
}

function note(text, at) {
  const entry = { note: text, at };
  keep(lines, entry);
  if (talkingTo === null) log.add(entry);
}

function conversation(name) {
  if (!conversations.has(name)) conversations.set(name, { lines: [], unread: 0 });
  return conversations.get(name);
}

function receivePrivate(line) {
  const talk = conversation(line.name);
  if (talk.lines.some((known) => known.key === line.key)) return;
  const entry = asEntry(line);
  keep(talk.lines, entry);
  if (talkingTo === line.name) log.add(entry);
  else talk.unread += 1;
  countMissed();
  drawConversations();
}

function countMissed() {
  if (document.hidden) missed += 1;
  drawTitle();
}

document.addEventListener("visibilitychange", () => { missed = 0; drawTitle(); });

// ---- writing ---------------------------------------------------------------------------------

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  const place = talkingTo === null ? { room: me.room } : { to: talkingTo };
  const entry = { key: newKey(), name: me.name, text, at: new Date().toISOString(), own: true, ...place };
  keep(talkingTo === null ? lines : conversation(talkingTo).lines, entry);
  $("text").value = "";
  fitText();
  stopTyping();
  log.add(entry);
  outbox.add(entry);
});

$("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});

$("text").addEventListener("input", () => {
  fitText();
  if (!$("text").value.trim()) stopTyping();
  else startTyping();
});
$("text").addEventListener("blur", stopTyping);

function fitText() {
  const box = $("text");
  box.style.setProperty("height", "auto");
  box.style.setProperty("height", `${box.scrollHeight}px`);
  const rest = MAX_TEXT - box.value.length;
  $("left").textContent = rest <= MAX_TEXT / 5 ? String(rest) : "";
}

// ---- typing ----------------------------------------------------------------------------------

function startTyping() {
  const now = performance.now();
  if (!joined || talkingTo !== null || (typingSentAt && now - typingSentAt < TYPING_EVERY_MS)) return;
  typingSentAt = now;
  socket.volatile.emit("typing", true);
}

function stopTyping() {
  if (!typingSentAt) return;
  typingSentAt = 0;
  if (joined) socket.volatile.emit("typing", false);
}

function startTypist(name) {
  clearTimeout(typists.get(name));
  typists.set(name, setTimeout(() => stopTypist(name), TYPING_SHOWN_MS)); // a "stopped" may get lost
  drawTyping();
}

function stopTypist(name) {
  clearTimeout(typists.get(name));
  typists.delete(name);
  drawTyping();
}

function clearTypists() {
  for (const name of [...typists.keys()]) stopTypist(name);
}

function drawTyping() {
  const names = talkingTo === null ? [...typists.keys()] : [];
  const text = ["", `${names[0]} is typing`, `${names[0]} and ${names[1]} are typing`][names.length] ?? "Several people are typing";
  $("typing").textContent = text;
  $("typing").classList.toggle("active", names.length > 0);
}

// ---- drawing ---------------------------------------------------------------------------------

/** Draw the conversation on screen from its beginning. */
function draw() {
  const talk = talkingTo === null ? null : conversation(talkingTo);
  if (talk) talk.unread = 0;
  log.reset(talk ? talk.lines : lines, talk ? `Only ${talkingTo} reads what you write here.` : "Nothing here yet. Say something.");
  $("text").placeholder = talk ? `Write to ${talkingTo} in private` : `Write to everyone in ${me.room}`;
  $("place").textContent = talkingTo ?? me.room;
  $("chat").classList.toggle("private", talk !== null);
  drawTyping();
  drawPeople();
}

function drawTitle() {
  let unread = missed;
  for (const talk of conversations.values()) unread += document.hidden ? 0 : talk.unread;
  const place = me ? `${talkingTo ?? me.room} · ` : "";
  document.title = `${unread ? `(${unread}) ` : ""}${place}Trio Chat`;
}

const byName = (one, other) => one.localeCompare(other);
const isOnline = (name) => Object.values(people).some((names) => names.includes(name));

function drawPeople() {
  const here = [...(people[me.room] ?? [])].sort(byName);
  const elsewhere = Object.entries(people).filter(([room]) => room !== me.room)
    .flatMap(([room, names]) => names.map((name) => ({ name, room }))).sort((one, other) => byName(one.name, other.name));
  const total = here.length + elsewhere.length;
  fill($("rooms"), Object.keys(people), (room) => room, (room) => roomItem(room));
  fill($("here"), here, (name) => name, (name) => personItem(name, name === me.name ? "you" : ""));
  fill($("elsewhere"), elsewhere, ({ name }) => name, ({ name, room }) => personItem(name, room));
  $("elsewhere-part").hidden = elsewhere.length === 0;
  $("online").textContent = `${total} online`;
  $("online-count").textContent = String(here.length);
  $("open-people").setAttribute("aria-label", `People: ${here.length} in this room, ${total} online`);
  $("place-info").textContent = talkingTo === null
    ? `${here.length} in this room, ${total} online`
    : `Private, ${isOnline(talkingTo) ? "online" : "offline"}`;
  drawConversations();
}

function drawConversations() {
  fill($("conversations"), [...conversations.keys()], (name) => name, (name) => conversationItem(name));
  $("private-part").hidden = conversations.size === 0;
  const unread = [...conversations.values()].reduce((sum, talk) => sum + talk.unread, 0);
  $("unread").hidden = unread === 0;
  $("unread").textContent = String(unread);
  drawTitle();
}

function roomItem(room) {
  const count = people[room]?.length ?? 0;
  return {
    label: room, detail: count ? String(count) : "", current: talkingTo === null && room === me.room,
    spoken: `Room ${room}, ${count} ${count === 1 ? "person" : "people"}`,
    action: () => (room === me.room ? talkTo(null) : switchRoom(room)),
  };
}

function personItem(name, detail) {
  const mine = name === me.name;
  return {
    label: name, detail, person: true, online: true, current: talkingTo === name,
    spoken: mine ? `${name}, you` : `Write to ${name} in private`,
    action: mine ? null : () => talkTo(name),
  };
}

function conversationItem(name) {
  const { unread } = conversation(name);
  const online = isOnline(name);
  return {
    label: name, detail: online ? "" : "offline", badge: unread, person: true, online, current: talkingTo === name,
    spoken: `Private with ${name}, ${online ? "online" : "offline"}${unread ? `, ${unread} unread` : ""}`,
    action: () => talkTo(name),
  };
}

function talkTo(name) {
  stopTyping();
  talkingTo = name;
  draw();
  closePanels();
  focusTalk();
}

if (me) socket.connect();
else $("name").focus();
