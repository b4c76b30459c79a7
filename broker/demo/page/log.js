// Draws a conversation: lines grouped by author and day, notes between them, the state of each line.
// Text enters the page through textContent only.

const GROUP_MS = 5 * 60_000;
const MAX_SHOWN = 400;

const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });

export function element(tag, className = "", text = "") {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

/** Paint an avatar: initials on a colour that follows from the name alone. */
export function paintAvatar(node, name) {
  let hash = 7;
  for (const char of name) hash = (hash * 31 + char.codePointAt(0)) % 3600;
  node.style.setProperty("--hue", String((hash * 47) % 360));
  const words = name.split(" ");
  const initials = words.length > 1 ? [words[0], words.at(-1)].map((word) => [...word][0]) : [...name].slice(0, 1);
  node.textContent = initials.join("").toUpperCase();
  return node;
}

export class Log {
  /**
   * @param list the <ol> to draw into
   * @param scroller the element that scrolls it
   * @param toEnd the button shown when there is more below
   * @param retry called with an entry that should be sent again
   */
  constructor(list, scroller, toEnd, retry) {
    Object.assign(this, { list, scroller, toEnd, retry, last: null, nodes: new Map(), stuck: true });
    scroller.addEventListener("scroll", () => {
      this.stuck = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 60;
      if (this.stuck) toEnd.hidden = true;
    });
    toEnd.addEventListener("click", () => this.scrollToEnd());
    const follow = new ResizeObserver(() => this.stuck && this.scrollToEnd());
    follow.observe(scroller);
    follow.observe(list);
  }

  /** Draw a conversation from its beginning. */
  reset(entries, emptyText) {
    this.list.replaceChildren();
    this.nodes.clear();
    this.last = null;
    this.list.dataset.empty = emptyText;
    for (const entry of entries) this.#append(entry);
    this.scrollToEnd();
  }

  /** Draw one more entry at the end. */
  add(entry) {
    const follow = this.stuck || entry.own;
    this.#append(entry);
    if (follow) this.scrollToEnd();
    else this.toEnd.hidden = false;
  }

  /** Show the new state of an entry, if it is drawn. */
  update(entry) {
    const node = this.nodes.get(entry.key);
    if (node) this.#paintState(node, entry);
  }

  scrollToEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.stuck = true;
    this.toEnd.hidden = true;
  }

  #append(entry) {
    this.#separateDays(entry);
    const node = entry.note ? element("li", "note", entry.note) : this.#line(entry);
    this.list.append(node);
    this.last = entry;
    while (this.list.childElementCount > MAX_SHOWN) this.#forget(this.list.firstElementChild);
  }

  #forget(node) {
    if (node.dataset.key) this.nodes.delete(node.dataset.key);
    node.remove();
  }

  #separateDays(entry) {
    const today = new Date(entry.at).toDateString();
    if (today === (this.last ? new Date(this.last.at).toDateString() : null)) return;
    const isToday = today === new Date().toDateString();
    this.list.append(element("li", "day", isToday ? "Today" : day.format(new Date(entry.at))));
    this.last = null;
  }

  #line(entry) {
    const previous = this.last;
    const follows = previous && !previous.note && previous.name === entry.name
      && new Date(entry.at) - new Date(previous.at) < GROUP_MS;
    const node = element("li", `line${entry.own ? " own" : ""}${follows ? " follows" : ""}`);
    node.dataset.key = entry.key;
    const avatar = paintAvatar(element("span", "avatar"), entry.name);
    avatar.setAttribute("aria-hidden", "true");
    const head = element("p", "head");
    const author = element("bdi", "author", entry.name);
    const when = element("time", "", time.format(new Date(entry.at)));
    when.dateTime = entry.at;
    head.append(author, when);
    const text = element("p", "text", entry.text);
    text.dir = "auto";
    node.append(avatar, head, text, element("p", "state"));
    this.nodes.set(entry.key, node);
    this.#paintState(node, entry);
    return node;
  }

  #paintState(node, entry) {
    const shown = node.querySelector(".state");
    node.dataset.state = entry.state ?? "sent";
    shown.textContent = entry.status ?? "";
    if (entry.state !== "failed") return;
    const button = element("button", "link", "Send again");
    button.type = "button";
    button.addEventListener("click", () => this.retry(entry));
    shown.append(" ", button);
  }
}
