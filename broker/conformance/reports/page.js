"use strict";
const search = document.querySelector("input");
const buttons = [...document.querySelectorAll("button")];
function update() {
  const words = search.value.trim().toLowerCase();
  const shown = buttons.filter((b) => b.getAttribute("aria-pressed") === "true").map((b) => b.dataset.show);
  for (const section of document.querySelectorAll("section")) {
    let any = false;
    for (const clause of section.querySelectorAll(".clause")) {
      const byName = clause.id.toLowerCase().includes(words);
      let visible = 0;
      for (const item of clause.querySelectorAll("li")) {
        const found = byName || item.textContent.toLowerCase().includes(words);
        item.hidden = !found || (shown.length > 0 && !shown.some((verdict) => item.classList.contains(verdict)));
        visible += item.hidden ? 0 : 1;
      }
      clause.hidden = visible === 0;
      any = any || visible > 0;
    }
    section.hidden = !any;
  }
}
for (const button of buttons) {
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    update();
  });
}
search.addEventListener("input", update);
function openNamed() {
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (named instanceof HTMLDetailsElement) named.open = true;
}
addEventListener("hashchange", openNamed);
openNamed();
