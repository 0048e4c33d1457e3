// Conveniences only: every page works without this file.
"use strict";
// Where focus belongs on a page that answers a form: `autofocus` does it too, but not in every browser.
document.querySelector("[data-focus]")?.focus();
const COPY_KEYS = /^(Mac|iP)/.test(navigator.platform) ? "⌘C" : "Ctrl+C";
for (const button of document.querySelectorAll("[data-copy]")) {
  const words = button.textContent;
  const status = button.parentElement.querySelector("[role=status]"); // in the page from the start, so it is read out
  let timer;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy);
    clearTimeout(timer);
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = status.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text); // no permission: then one key press is left to do
      button.textContent = status.textContent = `Press ${COPY_KEYS}`;
    }
    timer = setTimeout(() => { button.textContent = words; status.textContent = ""; }, 4000);
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
  let timer, request;
  const later = (milliseconds) => { clearTimeout(timer); timer = setTimeout(explain, milliseconds); };
  const explain = async () => {
    request?.abort();
    request = new AbortController();
    const body = new URLSearchParams({ csrf: area.form.elements.csrf.value, entries: area.value }); // too long for a URL
    const asked = { method: "POST", body, signal: request.signal };
    const answer = await fetch(area.dataset.explain, asked).catch(() => null);
    if (answer?.status === 429) return later(1000 * Number(answer.headers.get("Retry-After") || 10));
    const entries = answer?.ok ? await answer.json().catch(() => null) : null; // null: overtaken, or offline
    if (entries === null) return;
    const lines = entries.map(({ entry, good, words }) => {
      const line = document.createElement("li");
      line.textContent = `${entry}: ${words}`;
      line.className = good ? "good" : "bad";
      return line;
    });
    list.replaceChildren(...lines);
    list.hidden = lines.length === 0;
  };
  area.addEventListener("input", () => later(300));
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
