// Progressive enhancement: without this file, the pages are complete. Nothing here assembles HTML from strings.
"use strict";
const make = (name, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
};
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// Scrollable code can be reached with the keyboard.
for (const block of all("pre")) block.tabIndex = 0;

// On narrow screens, the navigation starts closed.
if (matchMedia("(max-width: 56rem)").matches) for (const menu of all(".side details")) menu.open = false;

// Copy buttons. The button of a sample with tabs copies the visible tab.
const COPY_KEYS = /^(Mac|iP)/.test(navigator.platform) ? "⌘C" : "Ctrl+C";
for (const sample of all(".sample")) {
  if (!sample.querySelector("pre")) continue;
  const button = make("button", { type: "button", className: "copy", textContent: "Copy" });
  const status = make("span", { className: "apart" });
  status.setAttribute("role", "status");
  let timer;
  button.addEventListener("click", async () => {
    const code = all("pre", sample).find((block) => block.offsetParent !== null).querySelector("code");
    clearTimeout(timer);
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = status.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // no permission: select the text, so that one key press copies it
      button.textContent = status.textContent = `Press ${COPY_KEYS}`;
    }
    timer = setTimeout(() => { button.textContent = "Copy"; status.textContent = ""; }, 4000);
  });
  sample.append(button, status);
}

// A language that is chosen once applies to every sample, and is remembered.
const choose = (language) => { for (const input of all(`.tabs input[value="${CSS.escape(language)}"]`)) input.checked = true; };
let language = null;
try { language = localStorage.getItem("kataven-docs-language"); } catch { /* storage is disabled */ }
if (language) choose(language);
document.addEventListener("change", ({ target }) => {
  if (!target.matches(".tabs input")) return;
  const before = target.getBoundingClientRect().top;
  choose(target.value);
  scrollBy(0, target.getBoundingClientRect().top - before); // samples above it may have another height now
  try { localStorage.setItem("kataven-docs-language", target.value); } catch { /* storage is disabled */ }
});

// Mark the section that is being read in the navigation.
const entries = new Map(all(".side li a").map((link) => [link.hash.slice(1), link]));
const seen = new IntersectionObserver((changes) => {
  for (const { target, isIntersecting } of changes) {
    if (!isIntersecting) continue;
    for (const link of all(".side [aria-current]")) link.removeAttribute("aria-current");
    entries.get(target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-15% 0px -80% 0px" });
for (const section of all("main section[id]")) if (entries.has(section.id)) seen.observe(section);

// Search. The index is built from the page itself.
const find = document.querySelector(".find"), box = document.getElementById("q");
const results = find.querySelector(".results"), list = results.querySelector("ol"), count = document.getElementById("found");
let index = null;
const words = (text) => text.toLowerCase().replace(/([a-z0-9])_(?=[a-z])/g, "$1 ").match(/[\p{L}\p{N}]+/gu) ?? [];
const stem = (word) => word.replace(/(?<=..[a-z])(ations?|ating|ated?|ings?|es|ed|s)$/, "");
const entry = (href, title, about, text, weight) => ({
  href, title, about, weight, plain: title.toLowerCase(), head: new Set(words(`${title} ${about}`).map(stem)), body: new Set(words(text).map(stem)),
});
function build() {
  const found = [], codes = new Map();
  for (const section of all("section[data-title]")) {
    const where = section.querySelector(".where")?.textContent.trim() ?? section.dataset.about ?? "Schema";
    found.push(entry(`#${section.id}`, section.dataset.title, `${where} ${section.classList.contains("operation") ? section.id : ""}`.trim(), (section.querySelector(".prose") ?? section).textContent, section.classList.contains("schema") ? 1 : 3));
  }
  for (const body of all("h4[id^='schema-']")) {
    found.push(entry(`#${body.id}`, body.id.slice(7), `Body of ${body.closest("section").dataset.title}`, "", 1));
  }
  for (const field of all(".fields > li[id]")) {
    found.push(entry(`#${field.id}`, field.id.split(".").pop(), field.id, field.textContent, 0));
  }
  for (const link of all("a[href^='/docs/errors#']")) codes.set(link.hash.slice(1), link.getAttribute("href"));
  if (!document.querySelector("section.error")) for (const [code, href] of codes) found.push(entry(href, code, "Error code", code, 2));
  return found;
}
function search(query) {
  const wanted = words(query).map(stem), plain = query.trim().toLowerCase();
  if (!wanted.length) return [];
  index ??= build();
  const scored = [];
  for (const one of index) {
    let score = one.plain === plain ? 100 : one.plain.startsWith(plain) ? 20 : 0;
    const every = wanted.every((word) => {
      const prefix = (set) => [...set].some((other) => other.startsWith(word));
      const gained = one.head.has(word) ? 12 : prefix(one.head) ? 8 : one.body.has(word) ? 3 : prefix(one.body) ? 1 : 0;
      score += gained;
      return gained > 0;
    });
    if (every) scored.push([score + one.weight, one]);
  }
  return scored.sort(([a], [b]) => b - a).map(([, one]) => one);
}
function show() {
  const found = search(box.value);
  results.hidden = !box.value.trim();
  count.textContent = found.length === 1 ? "1 result" : `${found.length || "No"} results`;
  list.replaceChildren(...found.slice(0, 12).map((one) => make("li", {}, make("a", { href: one.href }, one.title, make("small", { textContent: one.about })))));
}
find.hidden = false;
box.addEventListener("input", show);
box.addEventListener("focus", () => { if (box.value) show(); });
find.addEventListener("keydown", (event) => {
  const links = all("a", list), at = links.indexOf(document.activeElement);
  if (event.key === "Escape") { box.focus(); box.select(); results.hidden = true; }
  else if (event.key === "ArrowDown" && links.length) links[Math.min(at + 1, links.length - 1)].focus();
  else if (event.key === "ArrowUp" && at >= 0) (at === 0 ? box : links[at - 1]).focus();
  else if (event.key === "Enter" && document.activeElement === box && links.length) links[0].click();
  else return;
  event.preventDefault();
});
list.addEventListener("click", () => { results.hidden = true; });
document.addEventListener("click", (event) => { if (!find.contains(event.target)) results.hidden = true; });
find.addEventListener("focusout", ({ relatedTarget }) => { if (relatedTarget && !find.contains(relatedTarget)) results.hidden = true; });
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
  event.preventDefault();
  box.focus();
});

// At the Hub: fill in the user's account, and send read requests. The token stays in this variable: it is in no URL, no
// storage and no element of the page.
const sessionPath = document.body.dataset.session;
let session = null, token = null;
const post = async (path, fields) => {
  const body = new URLSearchParams({ ...fields, csrf: session.csrf });
  const response = await fetch(path, { method: "POST", body, redirect: "manual" });
  if (response.type === "opaqueredirect") throw new Error("Your session has ended. Reload the page after you have signed in again.");
  if (response.status === 429) throw new Error("Too many requests. Try again in a minute.");
  if (!response.headers.get("Content-Type")?.startsWith("application/json")) throw new Error("The Hub refused the request. Reload the page.");
  return { ok: response.ok, ...await response.json() };
};
const freshToken = async () => {
  const { token: text, seconds } = await post(`${sessionPath}/token`, {});
  token = { text, until: Date.now() + 1000 * (seconds - 10) };
};
async function send(operation, parameters) {
  if (token === null || Date.now() > token.until) await freshToken();
  const attempt = () => post("/docs/try", { operation, token: token.text, ...parameters });
  const first = await attempt();
  if (!first.expired) return first;
  await freshToken(); // for example, the account was switched in another tab and back
  return attempt();
}
const pretty = (text) => { try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; } };
function tryPanel(section) {
  const form = make("form"), output = make("pre", { tabIndex: 0, hidden: true }), status = make("p", { className: "who" });
  status.setAttribute("role", "status");
  output.setAttribute("aria-label", "Response");
  for (const field of all("[data-in]", section)) {
    const name = field.querySelector("code").textContent, id = `try-${field.id}`;
    const input = make("input", { id, name, required: "required" in field.dataset, autocomplete: "off", spellcheck: false });
    form.append(make("div", {}, make("label", { htmlFor: id, textContent: input.required ? `${name} (required)` : name }), input));
  }
  const button = make("button", { className: "send", textContent: "Send request" });
  form.append(button);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    status.textContent = "Sending…";
    try {
      const parameters = Object.fromEntries([...new FormData(form)].filter(([, text]) => text).map(([name, text]) => [`parameter.${name}`, text]));
      const sent = await send(section.id, parameters);
      output.hidden = !sent.status;
      status.textContent = sent.status ? `${sent.request}: ${sent.status}` : sent.message;
      if (sent.status) output.textContent = `${pretty(sent.body)}${sent.truncated ? "\n… (truncated)" : ""}\n\n${sent.headers.map(([name, value]) => `${name}: ${value}`).join("\n")}`;
    } catch (error) {
      output.hidden = true;
      status.textContent = error instanceof TypeError ? "No response was received. Check your connection." : error.message;
    }
    button.disabled = false;
  });
  return make("details", { className: "try" }, make("summary", { textContent: "Try it" }), form, status, output);
}
async function fillIn() {
  const intro = document.querySelector(".intro .prose");
  const response = await fetch(sessionPath, { redirect: "manual" }).catch(() => null);
  if (!response?.ok) {
    if (response?.type === "opaqueredirect") intro?.append(make("p", { className: "session" }, make("a", { href: "/sign-in?next=/docs" }, "Sign in"), " to try operations and to see your account in the samples."));
    return;
  }
  session = await response.json();
  const { user, account, key } = session;
  for (const place of all(".account")) { place.textContent = account; place.className = "filled"; }
  const shown = key ? `sk_live_${account}_…${key.hint}` : null;
  for (const block of all("pre.sh code, .intro pre code")) {
    if (shown && block.textContent.includes("KATAVEN_API_KEY") && !block.textContent.startsWith("export")) block.prepend(make("span", { className: "c", textContent: `# KATAVEN_API_KEY: ${shown} (${key.name})\n` }));
  }
  intro?.append(make("p", { className: "session" }, `Signed in as ${user}. The samples use the account `, make("b", {}, account), key ? ` and its newest active key, ${key.name} (${shown}). The Hub does not store the rest of the key.` : ". It has no active API key."));
  for (const section of all("[data-try]")) section.querySelector(".code").prepend(tryPanel(section));
}
if (sessionPath) fillIn();
