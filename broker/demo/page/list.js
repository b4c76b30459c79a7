// Draws the lists of rooms, conversations and people as buttons that stay where the focus is.

import { element, paintAvatar } from "./log.js";

/** Make a list show `items`, keeping the nodes it has, and with them the keyboard's focus. */
export function fill(list, items, keyOf, describe) {
  const old = new Map([...list.children].map((node) => [node.dataset.key, node]));
  for (const [index, item] of items.entries()) {
    const node = old.get(keyOf(item)) ?? newItem(keyOf(item));
    old.delete(keyOf(item));
    paintItem(node.firstElementChild, describe(item));
    if (list.children[index] !== node) list.insertBefore(node, list.children[index] ?? null);
  }
  for (const node of old.values()) node.remove();
}

function newItem(key) {
  const node = element("li");
  node.dataset.key = key;
  const button = element("button", "item");
  button.type = "button";
  const mark = element("span");
  mark.setAttribute("aria-hidden", "true");
  button.append(mark, element("bdi", "label"), element("span", "detail"), element("b", "badge"));
  node.append(button);
  return node;
}

function paintItem(button, { label, detail, badge = 0, current, person, online, spoken, action }) {
  const [mark, name, info, count] = button.children;
  name.textContent = label;
  info.textContent = detail;
  count.hidden = badge === 0;
  count.textContent = String(badge);
  mark.className = person ? `avatar${online ? " online" : " away"}` : "hash";
  if (person) paintAvatar(mark, label);
  else mark.textContent = "#";
  button.toggleAttribute("aria-current", false);
  if (current) button.setAttribute("aria-current", "true");
  button.disabled = action === null;
  button.setAttribute("aria-label", spoken);
  button.onclick = action;
}
