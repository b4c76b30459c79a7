// Keeps what was written until the server has it, and sends each line once.
//
// Lines leave only while the page has joined, one after another, and each has a key of its own. So
// lines written offline wait for the connection to come back, and a line whose answer got lost can be
// sent again without being read twice: the server knows its key.

export class Outbox {
  /**
   * @param ask sends an event and resolves to the answer, { error } included
   * @param room returns the room this page is in now, or null while it has not joined
   * @param changed called with an entry whose `state` and `status` changed
   */
  constructor({ ask, room, changed }) {
    Object.assign(this, { ask, room, changed, entries: [], busy: new Set() });
  }

  /** Take an entry: { key, text } and either `room` or, if it is private, `to`. */
  add(entry) {
    this.entries.push(entry);
    this.#mark(entry, "waiting");
    this.flush();
  }

  /** Return the entries that wait to be said in `room`. */
  waitingFor(room) {
    return this.entries.filter((entry) => entry.room === room);
  }

  /** Send what waits: a lane for the room and one for each person, so none holds up another. */
  flush() {
    for (const lane of new Set(this.entries.map((entry) => entry.to))) this.#drain(lane);
  }

  async #drain(lane) {
    if (this.busy.has(lane)) return;
    this.busy.add(lane);
    let going = true;
    while (going && this.room() !== null) {
      const next = this.entries.find((entry) => entry.to === lane && (entry.to || entry.room === this.room()));
      going = next !== undefined && (await this.#deliver(next));
    }
    this.busy.delete(lane);
  }

  /** Return false if the entry has to wait longer. */
  async #deliver(entry) {
    this.#mark(entry, "waiting");
    const [event, place] = entry.to ? ["private", entry.to] : ["message", entry.room];
    const { error } = await this.ask(event, place, entry.text, entry.key);
    const lostConnection = error?.code === "lost" && this.room() === null;
    if (lostConnection || error?.code === "wrong_room" || error?.code === "not_joined") {
      this.#mark(entry, "waiting");
      return false;
    }
    this.entries = this.entries.filter((waiting) => waiting !== entry);
    if (error) this.#mark(entry, "failed", `Not delivered: ${error.message}.`);
    else this.#mark(entry, "sent", entry.to ? "Delivered" : "");
    return true;
  }

  #mark(entry, state, status) {
    const waiting = this.room() === null ? "Waiting for the connection" : "Sending…";
    entry.state = state;
    entry.status = status ?? waiting;
    this.changed(entry);
  }
}
