// Runs in the frame of the widget's preview, before widget.js. It responds to the requests of widget.js with the values
// of the form, which the page sends as messages. The frame is sandboxed and has no access to the Hub.
"use strict";
{
  let config = null;
  const responses = {
    "/v1/widget/config": () => config,
    "/v1/widget/auth/guest": () => ({ visitor_token: "preview", refresh_token: "preview", expires_in: 3600, kind: "guest" }),
  };
  window.fetch = async (url) => {
    const body = responses[new URL(url, "https://preview.invalid").pathname];
    return new Response(JSON.stringify(body ? body() : { code: "preview", detail: "Not available in the preview." }), { status: body ? 200 : 404 });
  };
  let isOpen = true;
  addEventListener("kataven:open", () => { isOpen = true; });
  addEventListener("kataven:close", () => { isOpen = false; });
  addEventListener("message", async ({ source, data }) => {
    if (source !== parent || !data?.branding) return;
    config = { branding: data.branding, agent: { id: "preview", name: "Your agent", greeting_message: "How can I help?" }, auth: ["guest"], voice_url: "https://preview.invalid" };
    const isDrawn = await Kataven.init({ clientKey: "preview" }).then(() => true, () => false); // the next message replaces the widget
    if (!isDrawn || !isOpen) return;
    const { focus } = HTMLElement.prototype;
    HTMLElement.prototype.focus = () => {}; // the focus remains in the form
    Kataven.open();
    HTMLElement.prototype.focus = focus;
  });
  addEventListener("kataven:load", () => parent.postMessage("kataven-preview", "*"));
}
