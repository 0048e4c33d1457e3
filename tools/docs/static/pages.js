// Progressive enhancement: copy buttons, and one language for all tabs.
"use strict";
for (const block of document.querySelectorAll("div.highlight")) {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "copy", textContent: "Copy" });
  const status = Object.assign(document.createElement("span"), { className: "apart" });
  status.setAttribute("role", "status");
  button.addEventListener("click", async () => {
    const code = block.querySelector("pre");
    try {
      await navigator.clipboard.writeText(code.textContent.replace(/^\$ /gm, "").trimEnd());
      button.textContent = status.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // no permission: select the text, so that one key press copies it
      button.textContent = status.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; status.textContent = ""; }, 4000);
  });
  block.querySelector("pre").tabIndex = 0;
  block.append(button, status);
}
document.addEventListener("change", ({ target }) => {
  if (!target.matches(".tabs input")) return;
  for (const input of document.querySelectorAll(`.tabs input[value="${CSS.escape(target.value)}"]`)) input.checked = true;
});
