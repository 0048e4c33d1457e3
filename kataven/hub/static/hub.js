// Progressive enhancement: every page works without this file.
"use strict";
// After sign-out, "back" shows no page of the session, and after a switch, no page of the other account. The header Clear-Site-Data does the same, but not in every browser.
const SIGNED_OUT = "kataven-signed-out", ACCOUNT = "kataven-account";
const stored = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
const store = (name, value) => { try { localStorage.setItem(name, value); } catch { /* no storage */ } };
const { session: mark, account } = document.documentElement.dataset; // undefined before sign-in
const hideIfSignedOut = () => {
  if (!mark || mark !== stored(SIGNED_OUT)) return false;
  document.body.hidden = true;
  location.replace("/sign-in");
  return true;
};
const checkKept = () => {
  if (!hideIfSignedOut() && mark && account !== (stored(ACCOUNT) ?? account)) location.reload();
};
if (performance.getEntriesByType("navigation")[0]?.type === "back_forward") checkKept(); // it can be from the cache
else if (mark) { // from the server, so the session has not ended: a sign-out can fail
  if (mark === stored(SIGNED_OUT)) store(SIGNED_OUT, "");
  store(ACCOUNT, account);
}
addEventListener("pageshow", (event) => { if (event.persisted) checkKept(); });
addEventListener("storage", hideIfSignedOut); // in another tab
document.querySelector("form[action='/sign-out']")?.addEventListener("submit", () => store(SIGNED_OUT, mark));
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
// Search: a dialog over the page, opened by Ctrl+K, ⌘K or `/`. Without it, the navigation leads to the search page.
{
  // The same as `secret_text.py`: a key or a token, or a part of one, or the random part of a key alone.
  const SECRETS = [
    /(?:sk|pk)_live_[\w-]{8,}|(?<![0-9a-z])(?:rt|ut)_[0-9a-z]{16,}|eyJ[\w-]{8,}|:\/\/[^/@\s:]+:[^/@\s]+@/i,
    /(?=[0-9A-Za-z]*[a-z])(?=[0-9A-Za-z]*[A-Z])(?=[0-9A-Za-z]*[0-9])[0-9A-Za-z]{40,}/,
  ];
  const looksSecret = (text) => SECRETS.some((pattern) => pattern.test(text));
  const SETTING = "kataven-single-keys";
  const singleKeys = () => { try { return localStorage.getItem(SETTING) !== "off"; } catch { return true; } };
  const path = document.body.dataset.searchPage; // undefined before sign-in
  const page = document.querySelector("[data-search] [name=q]"); // on the search page there is no dialog
  const SHORTCUTS = `<dl class="shortcut-list">
    <div><dt><kbd data-modifier>Ctrl</kbd> <kbd>K</kbd></dt><dd>Search</dd></div><div><dt><kbd>/</kbd></dt><dd>Search</dd></div>
    <div><dt><kbd>?</kbd></dt><dd>Show these shortcuts</dd></div><div><dt><kbd>↑</kbd> <kbd>↓</kbd></dt><dd>Move through the results</dd></div>
    <div><dt><kbd>Enter</kbd></dt><dd>Open the result</dd></div><div><dt><kbd>Esc</kbd></dt><dd>Close the dialog</dd></div></dl>
    <p><label class="check"><input type="checkbox" data-single-keys checked> Use <kbd>/</kbd> and <kbd>?</kbd> in this browser</label></p>`;
  // Only this script opens the dialogs, so pages don't contain them.
  if (path && !page) document.body.insertAdjacentHTML("beforeend", `<dialog id="palette" class="palette" aria-label="Search">
    <form method="get" role="search"><label class="unseen" for="palette-text">Search for a name, an ID or a key</label>
    <input id="palette-text" name="q" type="search" autocomplete="off" autocapitalize="none" spellcheck="false" maxlength="2000" data-clear placeholder="Name, ID, or a pasted key"></form>
    <div class="palette-results" data-results aria-live="polite"></div>
    <p class="palette-help quiet small"><kbd>↑</kbd> <kbd>↓</kbd> to move, <kbd>Enter</kbd> to open, <kbd>Esc</kbd> to close, <kbd>?</kbd> for all shortcuts</p>
    <form method="post" autocomplete="off" hidden><input type="hidden" name="secret" value="" autocomplete="off" data-clear></form></dialog>
    <dialog id="shortcuts" class="palette shortcuts" aria-labelledby="shortcuts-title"><h2 id="shortcuts-title">Keyboard shortcuts</h2>${SHORTCUTS}
    <form method="dialog"><button class="quiet-button">Close</button></form></dialog>`);
  const palette = document.getElementById("palette"), help = document.getElementById("shortcuts");
  const isField = (element) => element.isContentEditable || element.matches("input:not([type=checkbox]), select, textarea");
  const open = (dialog) => {
    const opener = document.activeElement;
    dialog.showModal();
    dialog.addEventListener("close", () => { if (opener !== document.body) opener?.focus(); }, { once: true });
  };
  const close = (dialog) => {
    dialog.close(); // returns the focus, except to the body
    if (dialog.contains(document.activeElement)) document.activeElement.blur();
  };
  const search = () => {
    if (help?.open) close(help);
    if (palette && !palette.open) open(palette);
    (page ?? palette?.querySelector("[name=q]"))?.select();
  };
  // A key is sent in the body of a form, never in a URL.
  const sendAsSecret = (text, box) => {
    box.value = text.value;
    text.value = "";
    box.form.submit();
  };
  if (page) {
    page.form.addEventListener("submit", (event) => {
      if (looksSecret(page.value)) { event.preventDefault(); sendAsSecret(page, document.getElementById("secret")); }
    });
  }
  for (const box of document.querySelectorAll("[data-clear]")) addEventListener("pagehide", () => { box.value = ""; }); // "back" must not show the key again
  for (const section of document.querySelectorAll("[data-shortcuts-setting]")) { section.insertAdjacentHTML("beforeend", SHORTCUTS); section.hidden = false; }
  for (const box of document.querySelectorAll("[data-single-keys]")) {
    box.checked = singleKeys();
    box.addEventListener("change", () => { try { localStorage.setItem(SETTING, box.checked ? "on" : "off"); } catch { box.checked = true; } });
  }
  if (COPY_KEYS === "⌘C") for (const key of document.querySelectorAll("[data-modifier]")) key.textContent = "⌘";
  if (palette || page) addEventListener("keydown", (event) => {
    const command = event.ctrlKey || event.metaKey;
    if (command && !event.altKey && !event.shiftKey && event.key.toLowerCase() === "k") { event.preventDefault(); search(); }
    if (command || event.altKey || isField(event.target) || !singleKeys()) return;
    if (event.key === "/") { event.preventDefault(); search(); }
    if (event.key === "?" && help && !help.open) { event.preventDefault(); close(palette); open(help); }
  });
  if (palette) {
    const [get, post] = palette.querySelectorAll("form");
    get.action = post.action = path;
    for (const field of document.querySelectorAll('[action="/sign-out"] input[type=hidden]')) post.append(field.cloneNode()); // the CSRF token
    const text = get.elements.q, results = palette.querySelector("[data-results]"), box = post.elements.secret;
    const pages = [...document.querySelectorAll(".side a")].map((link) => ({ label: link.textContent.trim(), path: link.getAttribute("href") }));
    let timer, request, shown = "";
    const lineOf = ({ label, path }) => {
      const line = document.createElement("li"), link = document.createElement("a"), kind = document.createElement("span"), title = document.createElement("span");
      Object.assign(kind, { className: "found-kind", textContent: "Page" });
      Object.assign(title, { className: "found-title", textContent: label });
      link.href = path;
      link.append(kind, title);
      line.append(link);
      return line;
    };
    // The pages of the navigation are found without a request.
    const show = (found) => {
      shown = text.value.trim();
      const list = found.querySelector(".found") ?? document.createElement("ul");
      list.className = "found";
      list.setAttribute("aria-label", "Results");
      list.prepend(...pages.filter(({ label }) => label.toLowerCase().includes(shown.toLowerCase())).map(lineOf));
      const note = found.querySelector("p");
      results.replaceChildren(...(list.children.length ? [list] : []), ...(note && !(list.children.length && note.role) ? [note] : []));
    };
    const suggest = async () => {
      request?.abort();
      const empty = document.createElement("div");
      if (!text.value.trim()) return show(empty);
      if (looksSecret(text.value)) {
        results.textContent = "This looks like a key. Press Enter to find out whose it is. It is sent in the body of a form, and not logged or stored.";
        shown = "";
        return;
      }
      request = new AbortController();
      const body = new URLSearchParams({ csrf: post.elements.csrf.value, q: text.value });
      const response = await fetch(`${path}/suggest`, { method: "POST", body, signal: request.signal }).catch(() => null);
      const html = response?.ok && !response.redirected ? await response.text().catch(() => null) : null; // null: superseded, too many, or offline
      if (html !== null) show(document.adoptNode(new DOMParser().parseFromString(html, "text/html").body));
    };
    text.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(suggest, looksSecret(text.value) ? 0 : 150); });
    get.addEventListener("submit", (event) => {
      const first = results.querySelector("a");
      if (looksSecret(text.value)) { event.preventDefault(); return sendAsSecret(text, box); }
      if (!text.value.trim()) return event.preventDefault();
      if (first && shown === text.value.trim()) { event.preventDefault(); first.click(); }
    });
    palette.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { event.preventDefault(); return close(palette); } // a search field would only empty itself
      const links = [...results.querySelectorAll("a")], at = links.indexOf(document.activeElement);
      const to = { ArrowDown: at + 1, ArrowUp: at - 1 }[event.key];
      if (to === undefined || !links.length) return;
      event.preventDefault();
      (to < 0 ? text : links[Math.min(to, links.length - 1)]).focus();
    });
    palette.addEventListener("click", (event) => { if (event.target === palette) close(palette); }); // the backdrop
    palette.addEventListener("close", () => {
      request?.abort();
      clearTimeout(timer);
      text.value = box.value = "";
      show(document.createElement("div"));
    });
    show(document.createElement("div"));
  }
}
// The preview of the widget: the real widget in a sandboxed frame, with the values of the form. The drawing remains if the frame doesn't load.
for (const frame of document.querySelectorAll("[data-preview-frame]")) {
  const form = document.querySelector("#accent_color").form, { title, launcher_label: label, accent_color: color, logo_url: logo, position, theme } = form.elements;
  const picker = form.querySelector("[data-color-picker]"), contrast = form.querySelector("[data-contrast]");
  const isColor = (text) => /^#[0-9a-f]{6}$/i.test(text);
  let shown = "#1746a2", drawn = "";
  const draw = () => {
    if (isColor(color.value.trim())) shown = color.value.trim().toLowerCase();
    const branding = { title: title.value.trim(), launcher_label: label.value.trim(), accent_color: shown, logo_url: /^https:\/\/./.test(logo.value.trim()) ? logo.value.trim() : "", position: position.value, theme: theme.value };
    const now = JSON.stringify(branding);
    if (!frame.hidden && now !== drawn) frame.contentWindow.postMessage({ branding }, "*");
    drawn = frame.hidden ? "" : now;
  };
  const measure = () => {
    contrast.hidden = !isColor(color.value.trim());
    if (contrast.hidden) return;
    const [r, g, b] = [1, 3, 5].map((at) => {
      const part = parseInt(shown.slice(at, at + 2), 16) / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    const light = 0.2126 * r + 0.7152 * g + 0.0722 * b, dark = light > 0.179, onWhite = 1.05 / (light + 0.05);
    contrast.querySelector("[data-ink]").textContent = dark ? "black" : "white";
    for (const [name, ratio, least] of [["text", dark ? (light + 0.05) / 0.05 : onWhite, 4.5], ["shape", onWhite, 3]]) {
      const verdict = contrast.querySelector(`[data-verdict=${name}]`);
      contrast.querySelector(`[data-ratio=${name}]`).textContent = ratio.toFixed(2);
      verdict.textContent = `${ratio >= least ? "passes" : "fails"} WCAG AA, ${least} : 1`;
      verdict.className = `tag ${ratio >= least ? "active" : "failed"}`;
    }
  };
  const update = () => { draw(); measure(); picker.value = shown; };
  picker.hidden = false;
  picker.addEventListener("input", (event) => { event.stopPropagation(); color.value = picker.value; color.dispatchEvent(new Event("input", { bubbles: true })); });
  form.addEventListener("input", update);
  form.addEventListener("change", update);
  addEventListener("pageshow", update);
  addEventListener("message", ({ source, data }) => {
    if (source !== frame.contentWindow || data !== "kataven-preview") return;
    frame.hidden = false;
    frame.parentElement.querySelector("svg").setAttribute("hidden", "");
    draw();
  });
  frame.src = frame.dataset.previewFrame;
}

// The wall: show how old it is, and mark it if it is not refreshed any more.
const wallAge = document.getElementById("wall-age");
if (wallAge) {
  const root = document.documentElement;
  let updated = Date.now(), open = false;
  document.body.addEventListener("htmx:beforeSwap", () => { open = document.querySelector("#wall details")?.open ?? false; });
  document.body.addEventListener("htmx:afterSwap", () => {
    updated = Date.now();
    const figures = document.querySelector("#wall details");
    if (figures) figures.open = open; // the table of the chart stays open
  });
  setInterval(() => {
    const seconds = Math.round((Date.now() - updated) / 1000);
    const stale = seconds > root.dataset.staleAfter;
    wallAge.textContent = stale ? `STALE: not updated for ${seconds} s` : `Updated ${seconds} s ago`;
    root.classList.toggle("stale", stale);
    const announced = document.getElementById("wall-stale");
    const words = stale ? "The wall is not being updated." : "";
    if (announced.textContent !== words) announced.textContent = words;
  }, 1000);
}
// Long forms: state that there are unsaved changes, and ask before the page is left.
for (const form of document.querySelectorAll("[data-guard]")) {
  const status = form.querySelector("[data-unsaved]");
  const isChanged = (field) => field.type === "checkbox" ? field.checked !== field.defaultChecked : field.tagName === "SELECT" ? [...field.options].some((option) => option.selected !== option.defaultSelected) && field.value !== ([...field.options].find((option) => option.defaultSelected) ?? field.options[0]).value : field.value !== field.defaultValue;
  const fields = [...form.elements].filter((field) => field.matches("input:not([type=hidden]), select, textarea"));
  let sent = false;
  const isUnsaved = () => form.dataset.guard === "unsaved" || fields.some(isChanged);
  const update = () => { status.textContent = isUnsaved() ? "Unsaved changes" : ""; };
  form.addEventListener("input", update);
  form.addEventListener("change", update);
  form.addEventListener("submit", () => { sent = true; });
  addEventListener("pageshow", () => { sent = false; update(); });
  addEventListener("beforeunload", (event) => { if (!sent && isUnsaved()) event.preventDefault(); });
}
