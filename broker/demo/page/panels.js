// The two rails: beside the talk on a wide screen, drawers on a narrow one.

const DRAWERS = [
  { id: "rooms-panel", opener: "open-rooms", narrow: matchMedia("(max-width: 760px)") },
  { id: "people-panel", opener: "open-people", narrow: matchMedia("(max-width: 1040px)") },
].map(({ id, opener, narrow }) => ({
  panel: document.getElementById(id), opener: document.getElementById(opener), narrow,
}));
const veil = document.getElementById("veil");
const talk = document.getElementById("talk");

function set({ panel, opener, narrow }, open) {
  panel.classList.toggle("open", open);
  panel.inert = narrow.matches && !open; // what cannot be seen cannot be reached by keyboard either
  opener.setAttribute("aria-expanded", String(open));
  veil.hidden = !DRAWERS.some((drawer) => drawer.panel.classList.contains("open"));
  talk.inert = !veil.hidden;
}

/** Close the open drawer and give the focus back to the button that opened it. */
export function closePanels() {
  for (const drawer of DRAWERS) {
    const { panel, opener } = drawer;
    const hadFocus = panel.classList.contains("open") && panel.contains(document.activeElement);
    set(drawer, false);
    if (hadFocus) opener.focus();
  }
}

for (const drawer of DRAWERS) {
  drawer.opener.addEventListener("click", () => {
    closePanels();
    set(drawer, true);
    drawer.panel.querySelector("button:not(:disabled)").focus();
  });
  drawer.panel.querySelector("[data-close]").addEventListener("click", closePanels);
  drawer.narrow.addEventListener("change", () => set(drawer, false));
  set(drawer, false);
}
veil.addEventListener("click", closePanels);
addEventListener("keydown", (event) => {
  if (event.key === "Escape") closePanels();
});
