"use strict";
(() => {
  const matches = [...document.querySelectorAll("details.match")];
  const place = (match) => match.querySelector(".place");
  const show = (match) => {
    for (const other of matches) other.open = other === match;
    history.replaceState(null, "", "#" + place(match).id);
    match.scrollIntoView({ block: "start" });
    place(match).focus({ preventScroll: true });
  };
  const follow = () => {
    const match = matches.find((each) => "#" + place(each).id === location.hash);
    if (match) show(match);
  };
  document.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || !matches.length || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.target.closest("input, textarea, select, .scroll, .plot, pre")) return;
    const at = matches.findIndex((match) => match.open);
    const next = at < 0 ? (step > 0 ? 0 : matches.length - 1) : at + step;
    if (!matches[next]) return;
    event.preventDefault();
    show(matches[next]);
  });
  addEventListener("hashchange", follow);
  follow();
})();
