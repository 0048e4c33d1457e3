/* Kataven widget. Embed it with <script src="https://…/widget.js" data-client-key="pk_live_…" async></script>, or call
 * Kataven.init({ clientKey, agent, userToken, onToken, onEnd }). It draws a launcher and a panel, requests a visitor token
 * when a visitor opens the panel, refreshes the token, and passes it to the page. The voice edge holds the conversation.
 *
 * In a Content-Security-Policy it needs only `script-src` for itself and `connect-src` for the API. It uses a constructed
 * style sheet in a shadow root, and does not evaluate code or parse text as markup. Apache-2.0. */
(() => {
  "use strict";

  if (window.Kataven) return console.warn("Kataven: widget.js is embedded twice in this page; the second script is ignored.");
  const script = document.currentScript;
  const api = script ? new URL(script.src).origin : "";
  // Errors after which the widget starts a new session. All other rejections are final.
  const RESTARTABLE = ["refresh_token_unknown", "refresh_token_reused"];
  const MAX_PAUSE_SECONDS = 60;
  let current = null;

  class WidgetError extends Error {
    constructor(code, detail, retryAfter) {
      super(detail);
      this.code = code;
      this.retryAfter = retryAfter;
    }
    get final() {
      return !["unavailable", "rate_limited", "unreachable", "internal_error", "schema_mismatch"].includes(this.code);
    }
  }

  async function request(path, body) {
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
      throw new WidgetError("unreachable", "The Kataven API is not reachable.");
    }
    const result = await response.json().catch(() => ({}));
    if (response.ok) return result;
    const seconds = Number(response.headers.get("Retry-After"));
    throw new WidgetError(result.code || "internal_error", result.detail || `HTTP ${response.status}`, seconds || 0);
  }

  const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

  /* The session of one visitor on one page: its tokens and their refresh. */
  class VisitorSession {
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

    /* Resolves with a valid token. Concurrent calls share one request. */
    ready() {
      if (this.token && !this.due()) return Promise.resolve(this.token);
      return this.renew();
    }

    renew() {
      this.renewing ||= this.retry().finally(() => (this.renewing = null));
      return this.renewing;
    }

    async retry() {
      for (let attempt = 0; ; attempt++) {
        try {
          return this.store(await this.next());
        } catch (error) {
          if (!(error instanceof WidgetError)) throw error;
          if (this.over) throw error;
          if (error.final) {
            this.end(error);
            throw error;
          }
          // A first token is requested a few times, then the caller gets the error. A running session keeps retrying.
          if (!this.refreshToken && attempt >= 3) throw error;
          const backoff = Math.min(MAX_PAUSE_SECONDS, 2 ** attempt) * (0.5 + Math.random() / 2);
          await pause(Math.max(error.retryAfter, backoff));
        }
      }
    }

    async next() {
      if (this.over) throw new WidgetError("ended", "The visitor session has ended.");
      if (this.refreshToken) {
        const current = this.refreshToken;
        try {
          return await request("/v1/widget/auth/refresh", { refresh_token: current });
        } catch (error) {
          if (!RESTARTABLE.includes(error.code)) throw error;
          this.refreshToken = null;
        }
      }
      return this.start();
    }

    async start() {
      const { clientKey, agent, config, options } = this.widget;
      const page = { client_key: clientKey, ...(agent && { agent_id: agent }) };
      const userToken = await this.widget.userToken();
      if (userToken) {
        const pair = await request("/v1/widget/auth/exchange", { ...page, user_token: userToken }); // a failed token can be sent again
        this.widget.tokenUsed = true;
        return pair;
      }
      // A user must not silently become a guest. A token string is valid once; only a function can provide another one.
      if (typeof options.userToken !== "string" && config.auth.includes("guest")) {
        return request("/v1/widget/auth/guest", page);
      }
      throw new WidgetError("user_token_missing", "This agent requires a signed-in user, but the page provided no user token.");
    }

    store(pair) {
      if (this.over) throw new WidgetError("ended", "The visitor session has ended.");
      const seconds = pair.expires_in;
      this.token = pair.visitor_token;
      this.refreshToken = pair.refresh_token;
      this.expiresAt = Date.now() + seconds * 1000;
      this.renewAt = Date.now() + seconds * 800;
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.renew().catch(() => {}), seconds * 800);
      this.widget.emit("token", {
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
      this.widget.emit("end", { code: error.code, detail: error.message });
    }
  }

  /* The launcher and the panel. */
  class Widget {
    constructor(options) {
      this.options = options;
      this.clientKey = options.clientKey;
      this.agent = options.agent;
      this.session = null;
      this.isOpen = false;
    }

    async start() {
      const query = new URLSearchParams({ client_key: this.clientKey });
      if (this.agent) query.set("agent_id", this.agent);
      this.config = await request(`/v1/widget/config?${query}`);
      if (document.readyState === "loading") {
        await new Promise((done) => document.addEventListener("DOMContentLoaded", done, { once: true }));
      }
      if (this.gone) throw new WidgetError("ended", "The widget was removed.");
      this.draw();
      this.emit("ready", { agent: this.config.agent });
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
      // Shows the children of <kataven-widget>, such as the page's voice client.
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
      this.emit("open", {});
      this.token().catch(() => {});
    }

    close() {
      if (!this.isOpen) return;
      this.isOpen = false;
      this.panel.hidden = true;
      this.launcher.setAttribute("aria-expanded", "false");
      this.launcher.focus();
      this.emit("close", {});
    }

    /* A valid visitor token. Starts a session on the first call, and after the previous session has ended. */
    async token() {
      if (!this.session || this.session.over) {
        this.session = new VisitorSession(this);
        this.showStatus("Connecting…");
      }
      const session = this.session;
      try {
        const token = await session.ready();
        this.showStatus(
          this.config.voice_url
            ? "Ready."
            : "Conversations are not set up on this page yet. Nothing that you say or write here is received."
        );
        return token;
      } catch (error) {
        if (session === this.session) this.showStatus(`Not available at the moment. (${error.code || "error"})`);
        throw error;
      }
    }

    /* The user token that the page provides: a string, which is used once, or a function that requests one. */
    async userToken() {
      const { userToken } = this.options;
      if (typeof userToken === "function") return userToken();
      return this.tokenUsed ? null : userToken;
    }

    showStatus(text) {
      this.status.textContent = text;
    }

    /* Notifies the page with an event on the window, such as `kataven:token`, and with a callback, such as `onToken`. */
    emit(name, detail) {
      window.dispatchEvent(new CustomEvent(`kataven:${name}`, { detail }));
      if (name === "end" && this.status) this.showStatus(`This session has ended. (${detail.code})`);
      const callback = this.options[`on${name[0].toUpperCase()}${name.slice(1)}`];
      if (callback) Promise.resolve(detail).then(callback); // errors of the callback are reported as the page's own
    }

    remove() {
      this.gone = true;
      if (this.session) this.session.end(new WidgetError("ended", "The widget was removed."));
      if (this.host) this.host.remove();
    }
  }

  function element(name, attributes = {}, text = null) {
    const created = document.createElement(name);
    for (const [attribute, value] of Object.entries(attributes)) created.setAttribute(attribute, value);
    if (text !== null) created.textContent = text;
    return created;
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

  /* The account's accent colour, with black or white text, whichever has more contrast (WCAG 2.2, relative luminance). */
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

  /* Draws the widget. Resolves when it is drawn, or rejects with a `code` if the page is not allowed. */
  function init(options) {
    const { clientKey } = options || {};
    if (!clientKey) return Promise.reject(new WidgetError("invalid_request", "Kataven.init: `clientKey` is missing."));
    if (current) current.remove();
    current = new Widget(options);
    const widget = current;
    return widget.start().then(
      () => ({ agent: widget.config.agent }),
      (error) => {
        console.warn(`Kataven: ${error.message} (${error.code})`);
        widget.emit("refused", { code: error.code, detail: error.message });
        throw error;
      }
    );
  }

  window.Kataven = Object.freeze({
    init,
    open: () => current && current.open(),
    close: () => current && current.close(),
    /* A valid visitor token. */
    token: () => (current ? current.token() : Promise.reject(new WidgetError("ended", "Call Kataven.init first."))),
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
