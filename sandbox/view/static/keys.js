// Keys and the live part of the pages. Everything works without it.
"use strict";
const typing = (element) => element && /^(INPUT|SELECT|TEXTAREA)$/.test(element.tagName);
const rows = () => [...document.querySelectorAll("tbody[data-rows] tr[data-row] a.open")];

function step(by) {
  const links = rows();
  const here = links.indexOf(document.activeElement);
  const next = links[here < 0 ? (by > 0 ? 0 : links.length - 1) : here + by];
  if (next) next.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (typing(document.activeElement)) {
    if (event.key === "Escape") document.activeElement.blur();
    return;
  }
  const follow = (rel) => { const link = document.querySelector(`a[rel~="${rel}"]`); if (link) link.click(); };
  const keys = {
    j: () => step(1), k: () => step(-1),
    ArrowRight: () => follow("next"), ArrowLeft: () => follow("prev"), n: () => follow("next"), p: () => follow("prev"),
    u: () => follow("up"), m: () => follow("alternate"),
    "/": () => { const field = document.querySelector("input[type=search]"); if (field) field.focus(); },
    l: () => { const field = document.querySelector("form.label input"); if (field) field.focus(); },
  };
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});

const changed = (field) => field.tagName === "SELECT"
  ? [...field.options].some((option) => option.selected !== (option.defaultSelected || option === field.options[0] && ![...field.options].some((each) => each.defaultSelected)))
  : field.value !== field.defaultValue && field.tagName === "INPUT";

// A run that is going is asked for again every two seconds; what changed is put in the place of what was there.
// Parsed, not run: a document made by DOMParser executes nothing.
async function refresh() {
  if (document.querySelector("[data-live][data-going]") && !document.hidden) {
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (answer.ok) {
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const part of document.querySelectorAll("[data-live]")) {
          const other = fresh.getElementById(part.id);
          // A filter that somebody is setting is left alone.
          if (part.matches("form") && (part.contains(document.activeElement) || [...part.elements].some(changed))) continue;
          if (!other || part.innerHTML === other.innerHTML && part.outerHTML === other.outerHTML) continue;
          const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
          part.replaceWith(other);
          if (focused) [...other.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus();
        }
      }
    } catch { /* the server has gone: what is there stays */ }
  }
  setTimeout(refresh, 2000);
}
setTimeout(refresh, 2000);
