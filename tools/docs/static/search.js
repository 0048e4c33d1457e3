// Ranks the sections of search-data.js. Every word of the query must occur; decision records come last.
"use strict";
const COMMON = new Set("a an and are can do does how i in is it my of on or the to was what when why with".split(" "));
const words = (text) => (text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []);
// Ends are removed so that "rotate" finds "rotation" and "leaked" finds "leak".
const stem = (word) => word.replace(/(?<=..[a-z])(ations?|ating|ated?|ates|ions?|ings?|ers?|es|ed|s|e)$/, "");
const stems = (text) => new Set(words(text).map(stem));
const PAGES = SEARCH_DATA.map(([page, title, heading, anchor, excerpt, body, rank]) => ({
  page, title, heading, anchor, excerpt, rank, titleStems: stems(title), headingStems: stems(heading), bodyStems: stems(body),
}));
function search(query) {
  const all = words(query), wanted = all.filter((word) => !COMMON.has(word)).map(stem);
  if (!wanted.length) return [];
  const found = [];
  for (const one of PAGES) {
    let score = 0, named = false;
    const prefix = (set, word) => word.length > 2 && [...set].some((other) => other.startsWith(word));
    const every = wanted.every((word) => {
      const inTitle = one.titleStems.has(word), inHeading = one.headingStems.has(word), inBody = one.bodyStems.has(word);
      named ||= inTitle || inHeading;
      score += (inTitle ? 40 : 0) + (inHeading ? 30 : 0) + (inBody ? 5 : 0);
      return inTitle || inHeading || inBody || prefix(one.bodyStems, word) || prefix(one.titleStems, word);
    });
    if (!every) continue;
    score += one.rank > 0 && !named ? 0 : one.rank; // a guide comes first if the query is about it
    if (!one.heading) score += 5; // the page itself before its sections
    found.push([score, one]);
  }
  return found.sort(([a], [b]) => b - a).map(([, one]) => one);
}
globalThis.search = search;
const box = document.getElementById("query"), list = document.getElementById("results"), count = document.getElementById("count");
function show() {
  const found = search(box.value);
  count.textContent = box.value.trim() ? `${found.length || "No"} ${found.length === 1 ? "result" : "results"}` : "";
  list.replaceChildren(...found.slice(0, 30).map((one) => {
    const item = document.createElement("li"), link = document.createElement("a"), excerpt = document.createElement("p");
    link.href = `${one.page}.html${one.anchor ? `#${one.anchor}` : ""}`;
    link.textContent = one.heading ? `${one.title} › ${one.heading}` : one.title;
    excerpt.textContent = one.excerpt;
    item.append(link, excerpt);
    return item;
  }));
}
box.value = new URLSearchParams(location.search).get("q") ?? "";
box.addEventListener("input", show);
box.focus();
show();
