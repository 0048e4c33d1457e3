/* Kataven widget. Paste <script src="https://…/widget.js" data-client-key="pk_live_…" async></script>, or call
 * Kataven.init({ clientKey, agent, userToken, onToken, onEnd }). It draws a launcher and a panel, gets a visitor token when
 * a visitor opens it, keeps the token fresh, and hands it to the page. The conversation is another service's.
 *
 * It needs nothing but `script-src` for itself and `connect-src` for the API of a Content-Security-Policy: its style is a
 * constructed sheet in a shadow root, nothing is evaluated and no text becomes markup. Apache-2.0. */
(() => {
  "use strict";

  if (window.Kataven) return console.warn("Kataven: widget.js is in this page twice; the first one counts.");
  const script = document.currentScript;
  const api = script ? new URL(script.src).origin : "";
  // Codes after which a visit may simply begin anew; all others mean that somebody does not want us here.
  const BEGIN_AGAIN = ["refresh_token_unknown", "refresh_token_reused"];
  const MAX_PAUSE_SECONDS = 60;
  let current = null;

  class Refused extends Error {
    constructor(code, detail, retryAfter) {
      super(detail);
      this.code = code;
      this.retryAfter = retryAfter;
    }
    get final() {
      return !["unavailable", "rate_limited", "unreachable", "internal_error", "schema_mismatch"].includes(this.code);
    }
  }

  async function ask(path, body) {
    let response;
    try {
      response = await fetch(api + path, {
        method: body ? "POST" : "GET",
        headers: body ? { "Content-Type": "application/json" } : {},
        body: body && JSON.stringify(body),
        credentials: "omit",
        cache: "no-store",
        referrerPolicy: "strict-origin",
      });
    } catch {
      throw new Refused("unreachable", "The Kataven API can't be reached.");
    }
    const answer = await response.json().catch(() => ({}));
    if (response.ok) return answer;
    const seconds = Number(response.headers.get("Retry-After"));
    throw new Refused(answer.code || "internal_error", answer.detail || `HTTP ${response.status}`, seconds || 0);
  }

  const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

  /* One visitor on one page: the token and whatever keeps it fresh. */
  class Visit {
    constructor(widget) {
      this.widget = widget;
      this.refreshToken = null;
      this.token = null;
      this.expiresAt = 0;
      this.over = false;
      this.timer = 0;
      this.wake = () => document.visibilityState === "visible" && this.token && this.due() && this.renew();
      document.addEventListener("visibilitychange", this.wake);
    }

    due() {
      return Date.now() >= this.renewAt;
    }

    /* Resolves with a token that is good now. One request at a time, however many ask. */
    ready() {
      if (this.token && !this.due()) return Promise.resolve(this.token);
      return this.renew();
    }

    renew() {
      this.renewing ||= this.persist().finally(() => (this.renewing = null));
      return this.renewing;
    }

    async persist() {
      for (let attempt = 0; ; attempt++) {
        try {
          return this.keep(await this.next());
        } catch (error) {
          if (!(error instanceof Refused)) throw error;
          if (this.over) throw error;
          if (error.final) {
            this.end(error);
            throw error;
          }
          // Whoever waits for a first token learns of the trouble after a few tries; a visit under way goes on trying.
          if (!this.refreshToken && attempt >= 3) throw error;
          const backoff = Math.min(MAX_PAUSE_SECONDS, 2 ** attempt) * (0.5 + Math.random() / 2);
          await pause(Math.max(error.retryAfter, backoff));
        }
      }
    }

    async next() {
      if (this.over) throw new Refused("ended", "The visit is over.");
      if (this.refreshToken) {
        const shown = this.refreshToken;
        try {
          return await ask("/v1/widget/auth/refresh", { refresh_token: shown });
        } catch (error) {
          if (!BEGIN_AGAIN.includes(error.code)) throw error;
          this.refreshToken = null;
        }
      }
      return this.begin();
    }

    async begin() {
      const { clientKey, agent, config, options } = this.widget;
      const page = { client_key: clientKey, ...(agent && { agent_id: agent }) };
      const given = await this.widget.userToken();
      if (given) {
        const pair = await ask("/v1/widget/auth/exchange", { ...page, user_token: given }); // if it fails: once more
        this.widget.wasShown = true;
        return pair;
      }
      // Who came as a user does not become a stranger by the way: a text is good once, and only a function gives more.
      if (typeof options.userToken !== "string" && config.auth.includes("guest")) {
        return ask("/v1/widget/auth/guest", page);
      }
      throw new Refused("user_token_missing", "This agent takes signed-in users only; the page brought no user token.");
    }

    keep(pair) {
      if (this.over) throw new Refused("ended", "The visit is over.");
      const seconds = pair.expires_in;
      this.token = pair.visitor_token;
      this.refreshToken = pair.refresh_token;
      this.expiresAt = Date.now() + seconds * 1000;
      this.renewAt = Date.now() + seconds * 800;
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.renew().catch(() => {}), seconds * 800);
      this.widget.tell("token", {
        token: this.token,
        kind: pair.kind,
        agent: pair.agent_id,
        expiresAt: this.expiresAt,
        voiceUrl: this.widget.config.voice_url,
        element: this.widget.host,
      });
      return this.token;
    }

    end(error) {
      if (this.over) return;
      this.over = true;
      this.token = this.refreshToken = null;
      clearTimeout(this.timer);
      document.removeEventListener("visibilitychange", this.wake);
      this.widget.tell("end", { code: error.code, detail: error.message });
    }
  }

  /* What a visitor sees. */
  class Widget {
    constructor(options) {
      this.options = options;
      this.clientKey = options.clientKey;
      this.agent = options.agent;
      this.visit = null;
      this.isOpen = false;
    }

    async start() {
      const query = new URLSearchParams({ client_key: this.clientKey });
      if (this.agent) query.set("agent_id", this.agent);
      this.config = await ask(`/v1/widget/config?${query}`);
      if (document.readyState === "loading") {
        await new Promise((done) => document.addEventListener("DOMContentLoaded", done, { once: true }));
      }
      if (this.gone) throw new Refused("ended", "The widget was removed.");
      this.draw();
      this.tell("ready", { agent: this.config.agent });
    }

    draw() {
      const { branding, agent } = this.config;
      this.host = document.createElement("kataven-widget");
      const root = this.host.attachShadow({ mode: "open" });
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(STYLE + accent(branding.accent_color));
      root.adoptedStyleSheets = [sheet];
      this.host.dataset.theme = branding.theme;
      this.host.dataset.position = branding.position;

      const name = branding.title || agent.name;
      this.status = element("p", { class: "status", role: "status" });
      this.heading = element("h2", { id: "title", tabindex: "-1" }, name);
      const close = element("button", { type: "button", class: "close", "aria-label": "Close" });
      close.append(icon("M6 6l12 12M18 6L6 18"));
      close.addEventListener("click", () => this.close());
      const header = element("header");
      if (branding.logo_url) header.append(element("img", { src: branding.logo_url, alt: "" }));
      header.append(this.heading, close);
      const greeting = agent.greeting_message && element("p", { class: "greeting" }, agent.greeting_message);
      // What the page puts into <kataven-widget>, its voice client for one, is shown here.
      this.panel = element("section", { id: "panel", role: "dialog", "aria-labelledby": "title", hidden: "" });
      this.panel.append(header, ...(greeting ? [greeting] : []), element("slot"), this.status);

      this.launcher = element("button", {
        type: "button",
        class: "launcher",
        "aria-haspopup": "dialog",
        "aria-expanded": "false",
        "aria-controls": "panel",
      });
      this.launcher.append(icon("M4 5h16v11H9l-5 4z"));
      if (branding.launcher_label) this.launcher.append(element("span", {}, branding.launcher_label));
      else this.launcher.setAttribute("aria-label", `Talk to ${name}`);
      this.launcher.addEventListener("click", () => (this.isOpen ? this.close() : this.open()));
      root.append(this.panel, this.launcher);
      root.addEventListener("keydown", (event) => event.key === "Escape" && this.isOpen && this.close());
      document.body.append(this.host);
    }

    open() {
      if (this.isOpen) return;
      this.isOpen = true;
      this.panel.hidden = false;
      this.launcher.setAttribute("aria-expanded", "true");
      this.heading.focus();
      this.tell("open", {});
      this.token().catch(() => {});
    }

    close() {
      if (!this.isOpen) return;
      this.isOpen = false;
      this.panel.hidden = true;
      this.launcher.setAttribute("aria-expanded", "false");
      this.launcher.focus();
      this.tell("close", {});
    }

    /* A visitor token that is good now; the first call lets the visitor in. After the end of a visit, a new one. */
    async token() {
      if (!this.visit || this.visit.over) {
        this.visit = new Visit(this);
        this.say("Connecting…");
      }
      const asked = this.visit;
      try {
        const token = await asked.ready();
        this.say(
          this.config.voice_url
            ? "Ready."
            : "Conversations are not set up on this page yet, so nobody can hear or read you here."
        );
        return token;
      } catch (error) {
        if (asked === this.visit) this.say(`Not available at the moment. (${error.code || "error"})`);
        throw error;
      }
    }

    /* What the page has to say of who its visitor is: a user token, once, or a function that asks its server for one. */
    async userToken() {
      const { userToken } = this.options;
      if (typeof userToken === "function") return userToken();
      return this.wasShown ? null : userToken;
    }

    say(text) {
      this.status.textContent = text;
    }

    /* Hands something to the page: `kataven:token` at the window, and `onToken` of the options. */
    tell(what, detail) {
      window.dispatchEvent(new CustomEvent(`kataven:${what}`, { detail }));
      if (what === "end" && this.status) this.say(`This visit has ended. (${detail.code})`);
      const callback = this.options[`on${what[0].toUpperCase()}${what.slice(1)}`];
      if (callback) Promise.resolve(detail).then(callback); // what it throws is the page's affair, and seen there
    }

    remove() {
      this.gone = true;
      if (this.visit) this.visit.end(new Refused("ended", "The widget was removed."));
      if (this.host) this.host.remove();
    }
  }

  function element(name, attributes = {}, text = null) {
    const made = document.createElement(name);
    for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
    if (text !== null) made.textContent = text;
    return made;
  }

  function icon(path) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const shape = document.createElementNS("http://www.w3.org/2000/svg", "path");
    svg.setAttribute("viewBox", "0 0 24 24");
    svg.setAttribute("aria-hidden", "true");
    shape.setAttribute("d", path);
    svg.append(shape);
    return svg;
  }

  /* The account's colour, and black or white on it, whichever has more contrast (WCAG 2.2, relative luminance). */
  function accent(color) {
    if (!/^#[0-9a-f]{6}$/.test(color)) color = "#1746a2";
    const [r, g, b] = [1, 3, 5].map((at) => {
      const part = parseInt(color.slice(at, at + 2), 16) / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    const ink = 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
    return `:host{--accent:${color};--on-accent:${ink}}`;
  }

  const DARK = "--ink:#e8eaf0;--paper:#1b1e26;--line:#5b6478;color-scheme:dark";
  const STYLE = `
:host{all:initial;position:fixed;z-index:2147483000;right:1rem;bottom:1rem;display:flex;flex-direction:column;gap:.75rem;
align-items:flex-end;max-width:calc(100vw - 2rem);font:1rem/1.5 system-ui,sans-serif;color:var(--ink);
--ink:#16181d;--paper:#fff;--line:#8a93a3;color-scheme:light}
:host([data-position=bottom-left]){right:auto;left:1rem;align-items:flex-start}
:host([data-theme=dark]){${DARK}}
@media (prefers-color-scheme:dark){:host([data-theme=auto]){${DARK}}}
[hidden]{display:none!important}
button{font:inherit;cursor:pointer;min-width:2.75rem;min-height:2.75rem;border:1px solid transparent}
button:focus-visible,h2:focus-visible{outline:3px solid var(--ink);outline-offset:2px;box-shadow:0 0 0 2px var(--paper)}
.launcher{display:flex;gap:.5rem;align-items:center;justify-content:center;padding:.75rem;border-radius:2rem;
background:var(--accent);color:var(--on-accent);box-shadow:0 2px 12px #0004}
svg{width:1.5rem;height:1.5rem;fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
section{width:22rem;max-width:100%;max-height:min(36rem,calc(100vh - 7rem));overflow:auto;border-radius:1rem;
border:1px solid var(--line);background:var(--paper);box-shadow:0 8px 32px #0004}
header{display:flex;gap:.75rem;align-items:center;padding:.75rem 1rem;background:var(--accent);color:var(--on-accent)}
header img{width:2rem;height:2rem;object-fit:contain}
h2{flex:1;margin:0;font-size:1.1rem;overflow-wrap:anywhere}
h2:focus-visible{outline-color:currentColor;box-shadow:none}
.close{background:none;color:inherit;border-radius:.5rem}
.close:focus-visible{outline-color:currentColor;box-shadow:none}
p{margin:1rem;white-space:pre-line;overflow-wrap:anywhere}
.status{font-size:.9rem}
@media (prefers-reduced-motion:no-preference){section{animation:rise .15s ease-out}
@keyframes rise{from{opacity:0;transform:translateY(.5rem)}}}
@media (forced-colors:active){.launcher,section{border-color:CanvasText}}`;

  /* Draws the widget. Resolves when it is there, rejects with a `code` if this page may not have it. */
  function init(options) {
    const { clientKey } = options || {};
    if (!clientKey) return Promise.reject(new Refused("invalid_request", "Kataven.init: `clientKey` is missing."));
    if (current) current.remove();
    current = new Widget(options);
    const mine = current;
    return mine.start().then(
      () => ({ agent: mine.config.agent }),
      (error) => {
        console.warn(`Kataven: ${error.message} (${error.code})`);
        mine.tell("refused", { code: error.code, detail: error.message });
        throw error;
      }
    );
  }

  window.Kataven = Object.freeze({
    init,
    open: () => current && current.open(),
    close: () => current && current.close(),
    /* A visitor token that is good now. */
    token: () => (current ? current.token() : Promise.reject(new Refused("ended", "Call Kataven.init first."))),
    remove: () => {
      if (current) current.remove();
      current = null;
    },
  });
  window.dispatchEvent(new CustomEvent("kataven:load"));

  if (script && script.dataset.clientKey) {
    const { clientKey, agent, userToken } = script.dataset;
    init({ clientKey, agent, userToken }).catch(() => {});
  }
})();
