// Which page is shown, and what is around it. A page is {title, render, start, stop, actions}; it is drawn again after
// every change of the grid.

import { actions, h, update } from "./dom.js";
import { ago, count, number } from "./format.js";
import { itemPage } from "./items.js";
import { jobPage, jobsPage } from "./jobs.js";
import { changed, connect, grid, watch } from "./live.js";
import { bulletinsPage, deadLettersPage } from "./notices.js";
import { concerns, overview } from "./overview.js";
import { acknowledge } from "./parts.js";
import { starPage, stars } from "./stars.js";

const ROUTES = [
  [/^\/$/, () => overview],
  [/^\/stars$/, () => stars],
  [/^\/stars\/(.+)$/, (id, query) => starPage({ id, query })],
  [/^\/jobs$/, (_, query) => jobsPage({ query })],
  [/^\/jobs\/(\d+)$/, (id, query) => jobPage({ id, query })],
  [/^\/items\/(.+)$/, (key, query) => itemPage({ key, query })],
  [/^\/bulletins$/, (_, query) => bulletinsPage({ query })],
  [/^\/dead-letters$/, (_, query) => deadLettersPage({ query })],
];

const nowhere = {
  title: () => "Not found",
  render: () => [h("h1", "There is no such page"), h("p.empty", h("a", { href: "#/" }, "To the overview"))],
};

const main = document.getElementById("main");
let page = null;
let shownPath = null;

function place() {
  const [path, query] = (location.hash.slice(1) || "/").split("?");
  return { path, query: new URLSearchParams(query) };
}

function go() {
  const { path, query } = place();
  page?.stop?.();
  page = nowhere;
  for (const [pattern, make] of ROUTES) {
    const found = pattern.exec(path);
    if (!found) continue;
    try {
      page = make(found[1] === undefined ? undefined : decodeURIComponent(found[1]), query);
    } catch {
      // An address that decodes to nothing.
    }
    break;
  }
  if (path !== shownPath) {
    // A new page begins at its top, and for those who hear it, with its title.
    main.replaceChildren();
    window.scrollTo(0, 0);
    if (shownPath !== null) main.focus({ preventScroll: true });
  } else {
    // A link may have changed what a filter says; one that its reader is typing into says so already.
    for (const field of main.querySelectorAll("[data-filter]")) {
      if (field.value !== (place().query.get(field.dataset.filter) ?? "")) field.closest("[data-keep]")?.remove();
    }
  }
  shownPath = path;
  page.start?.();
  draw();
  document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

const PAGES = [
  ["/", "Overview", () => 0],
  ["/jobs", "Jobs", () => 0],
  ["/stars", "Stars", () => 0],
  ["/bulletins", "Bulletins", () => number(grid.summary.bulletinsUnacknowledged)],
  ["/dead-letters", "Dead letters", () => number(grid.summary.deadLetters)],
];

function draw() {
  const { path } = place();
  update(document.getElementById("nav"), PAGES.map(([to, label, waiting]) => {
    const isHere = to === "/" ? path === "/" : path.startsWith(to) || (to === "/jobs" && path.startsWith("/items"));
    const number = waiting();
    return h("a", { href: `#${to}`, "data-key": to, "aria-current": isHere ? "page" : null }, label,
      number > 0 ? h("span.pill", { "aria-label": `${count(number)} waiting` }, number > 999 ? "999+" : count(number)) : null);
  }));
  drawLink();
  const waiting = concerns().length;
  document.title = `${waiting > 0 ? `(${waiting}) ` : ""}${page.title()} · Orbit Grid`;
  if (grid.link === "connecting" && grid.stars.size === 0) {
    update(main, h("p.empty", "Connecting…"));
    return;
  }
  update(main, page.render());
}

function drawLink() {
  const state = document.getElementById("link-state");
  const isLost = grid.link === "lost";
  state.dataset.link = grid.link;
  document.body.classList.toggle("stale", isLost);
  const text = { live: "live", lost: "not connected", connecting: "connecting" }[grid.link];
  const wordsElement = document.getElementById("link-words");
  if (wordsElement.textContent !== text) wordsElement.textContent = text;
  const lost = document.getElementById("lost");
  lost.hidden = !isLost;
  if (isLost) {
    const text = `The connection to the coordinator was lost ${ago(grid.lostAt) === "now" ? "just now" : ago(grid.lostAt)}. What is shown is old; trying again.`;
    if (lost.textContent !== text) lost.textContent = text;
  }
}

actions(document.body, new Proxy({}, {
  get: (_, verb) => (of, element) => {
    if (verb === "acknowledge") return acknowledge([of]);
    return page.actions?.[verb]?.(of, element);
  },
}));

/// A filter is part of the address, so that it can be sent to somebody and survives a reload.
document.body.addEventListener("change", (event) => {
  const name = event.target.dataset?.filter;
  if (!name) return;
  const { path, query } = place();
  if (event.target.value) query.set(name, event.target.value);
  else query.delete(name);
  const text = query.toString();
  location.hash = text ? `${path}?${text}` : path;
});
document.body.addEventListener("submit", (event) => {
  if (event.target.matches("form.filters")) event.preventDefault();
});

window.addEventListener("hashchange", go);
watch(draw);
connect();
go();
changed();
