// Progressive enhancement: every page works without this file.
"use strict";
// After sign-out, "back" shows no page of the session. The header Clear-Site-Data does the same, but not in every browser.
const SIGNED_OUT = "kataven-signed-out";
const ended = () => { try { return localStorage.getItem(SIGNED_OUT); } catch { return null; } };
const hideIfSignedOut = () => {
  const mark = document.documentElement.dataset.session;
  if (!mark || mark !== ended()) return;
  document.body.hidden = true;
  location.replace("/sign-in");
};
hideIfSignedOut();
addEventListener("pageshow", hideIfSignedOut);
addEventListener("storage", hideIfSignedOut); // in another tab
document.querySelector("form[action='/sign-out']")?.addEventListener("submit", () => {
  try { localStorage.setItem(SIGNED_OUT, document.documentElement.dataset.session); } catch { /* no storage */ }
});
// Move the focus to the message after a form submission. `autofocus` does this too, but not in every browser.
document.querySelector("[data-focus]")?.focus();
const COPY_KEYS = /^(Mac|iP)/.test(navigator.platform) ? "⌘C" : "Ctrl+C";
for (const button of document.querySelectorAll("[data-copy]")) {
  const label = button.textContent;
  const status = button.parentElement.querySelector("[role=status]"); // present from the start, so that screen readers announce changes
  let timer;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy);
    clearTimeout(timer);
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = status.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text); // no permission: select the text, so that one key press copies it
      button.textContent = status.textContent = `Press ${COPY_KEYS}`;
    }
    timer = setTimeout(() => { button.textContent = label; status.textContent = ""; }, 4000);
  });
}
for (const menu of document.querySelectorAll("details.menu")) {
  document.addEventListener("click", (event) => { if (!menu.contains(event.target)) menu.open = false; });
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { menu.open = false; menu.querySelector("summary").focus(); }
  });
}
// The theme, without a request. Without this file, the same form sends it to the server.
const themeOf = () => /(?:^|; )kataven-theme=(light|dark)/.exec(document.cookie)?.[1] ?? "system";
const showTheme = () => {
  const theme = themeOf();
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  for (const button of document.querySelectorAll(".theme button")) button.setAttribute("aria-pressed", String(button.value === theme));
};
document.querySelector(".theme")?.addEventListener("submit", (event) => {
  event.preventDefault();
  const theme = event.submitter.value, secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `kataven-theme=${theme}; Path=/; SameSite=Lax; Max-Age=${theme === "system" ? 0 : 31536000}${secure}`;
  showTheme();
});
// A form is sent once. Its button shows that the server is working.
const release = (form) => {
  delete form.dataset.sent;
  for (const button of form.querySelectorAll("[aria-busy]")) button.removeAttribute("aria-busy");
};
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method === "dialog") return;
  if (form.dataset.sent && form.method === "post") return event.preventDefault();
  form.dataset.sent = "yes";
  event.submitter?.setAttribute("aria-busy", "true"); // not `disabled`: the browser would leave out the button's value
  setTimeout(release, 15000, form); // a download, or the user stopped the request
});
addEventListener("pageshow", (event) => { // after "back", the browser shows the page as it was
  if (!event.persisted) return;
  document.querySelectorAll("form[data-sent]").forEach(release);
  showTheme();
});
// Times in the user's time zone. The title has the time in UTC, the text of which the server rendered.
const localTimes = (root) => {
  const format = new Intl.DateTimeFormat([], { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short" });
  const precise = new Intl.DateTimeFormat([], { dateStyle: "full", timeStyle: "long" });
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (time.dataset.local || Number.isNaN(at.valueOf())) continue;
    time.dataset.local = "yes";
    if (time.textContent.endsWith(" UTC")) {
      time.title = time.textContent;
      time.textContent = format.format(at);
    } else if (time.title.endsWith(" UTC")) {
      time.title = `${precise.format(at)}\n${time.title}`;
    }
  }
};
localTimes(document);
document.addEventListener("htmx:load", (event) => localTimes(event.target));
// Explain the domain list of a widget key while the user types.
for (const area of document.querySelectorAll("[data-explain]")) {
  const list = area.closest("form").querySelector(".explained");
  let timer, request;
  const later = (milliseconds) => { clearTimeout(timer); timer = setTimeout(explain, milliseconds); };
  const explain = async () => {
    request?.abort();
    request = new AbortController();
    const body = new URLSearchParams({ csrf: area.form.elements.csrf.value, entries: area.value }); // a list can exceed the length of a URL
    const options = { method: "POST", body, signal: request.signal };
    const response = await fetch(area.dataset.explain, options).catch(() => null);
    if (response?.status === 429) return later(1000 * Number(response.headers.get("Retry-After") || 10));
    const entries = response?.ok ? await response.json().catch(() => null) : null; // null: superseded, or offline
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
// Update the preview of the widget while the user types.
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
// Poll the progress of a migration run. Reload the page when the run has ended.
function watch(panel) {
  setTimeout(async () => {
    const response = await fetch(panel.dataset.live, { headers: { "HX-Request": "true" } }).catch(() => null); // no use of the session
    if (response === null || response.status === 429 || response.status >= 500) return watch(panel); // retry
    if (response.status !== 200 || response.redirected) return location.assign("/console/migrations"); // the session may have ended
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("run");
    if (!fresh.dataset.live) return location.assign("/console/migrations");
    panel.replaceWith(document.adoptNode(fresh));
    watch(fresh);
  }, 2000);
}
document.querySelectorAll("[data-live]").forEach(watch);
// In the list of keys: select all keys of the page, and show how many are selected.
for (const form of document.querySelectorAll("[data-selection]")) {
  const all = form.querySelector("[data-select-all]");
  if (!all) continue;
  const box = all.querySelector("input"), boxes = [...form.querySelectorAll("[name=ids]")], status = form.querySelector("[data-selected]");
  const update = () => {
    const count = boxes.filter((one) => one.checked).length;
    status.textContent = count ? `${count} selected` : "";
    box.checked = count === boxes.length;
    box.indeterminate = count > 0 && count < boxes.length;
  };
  all.hidden = false;
  box.addEventListener("change", () => { for (const one of boxes) one.checked = box.checked; update(); });
  form.addEventListener("change", update);
  addEventListener("pageshow", update); // the browser restores the selection when the user goes back
}
