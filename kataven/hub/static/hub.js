// Conveniences only: every page works without this file.
"use strict";
for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text); // no permission: then one key press is left to do
      button.textContent = "Press Ctrl+C";
    }
    button.setAttribute("aria-live", "polite");
  });
}
for (const menu of document.querySelectorAll("details.menu")) {
  document.addEventListener("click", (event) => { if (!menu.contains(event.target)) menu.open = false; });
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { menu.open = false; menu.querySelector("summary").focus(); }
  });
}
// On a phone the menu is one long line: the current place is brought into sight.
document.querySelector(".side [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
// The list of pages of a widget key, explained while it is typed.
for (const area of document.querySelectorAll("[data-explain]")) {
  const list = area.closest("form").querySelector(".explained");
  let latest = 0;
  area.addEventListener("input", async () => {
    const mine = ++latest;
    const csrf = area.form.elements.csrf.value;
    const body = new URLSearchParams({ csrf, entries: area.value }); // a long list does not fit into a URL
    const answer = await fetch(area.dataset.explain, { method: "POST", body });
    if (!answer.ok || mine !== latest) return;
    const lines = (await answer.json()).map(({ entry, good, words }) => {
      const line = document.createElement("li");
      line.textContent = `${entry}: ${words}`;
      line.className = good ? "good" : "bad";
      return line;
    });
    list.replaceChildren(...lines);
    list.hidden = lines.length === 0;
  });
}
// The widget's preview follows what is typed.
for (const box of document.querySelectorAll("[data-preview]")) {
  box.addEventListener("input", () => {
    const text = box.value.trim();
    if (box.dataset.preview === "title") document.querySelector("[data-title]").textContent = text || "Your agent";
    if (box.dataset.preview === "label") document.querySelector("[data-label]").textContent = text;
    if (box.dataset.preview === "color" && /^#[0-9a-f]{6}$/i.test(text)) {
      for (const shape of document.querySelectorAll("[data-color]")) shape.setAttribute("fill", text);
    }
  });
}
// A run over the accounts is looked at again while it goes on; when it has ended, the whole page is.
function watch(panel) {
  setTimeout(async () => {
    const answer = await fetch(panel.dataset.live).catch(() => null);
    if (answer === null || answer.status === 429 || answer.status >= 500) return watch(panel); // try again later
    if (!answer.ok || answer.redirected) return location.assign("/console/migrations"); // signed out, perhaps
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("run");
    if (!fresh.dataset.live) return location.assign("/console/migrations");
    panel.replaceWith(document.adoptNode(fresh));
    watch(fresh);
  }, 2000);
}
document.querySelectorAll("[data-live]").forEach(watch);
