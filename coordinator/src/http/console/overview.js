// The first page: what is wrong, what runs, and how it goes.

import { areaChart, spanOf } from "./chart.js";
import { h } from "./dom.js";
import { ago, count, countOf, name, number, rate, words } from "./format.js";
import { grid, isEnded } from "./live.js";
import {
  JOB_HEAD, advisoriesOf, badge, bar, bulletinRow, diskOf, empty, guardOf, jobLink, jobRow, itemLink, panel, path, starLink, starState,
  table, time,
} from "./parts.js";

const ENDED_RECENTLY_MS = 24 * 3600 * 1000;
const BULLETINS_SHOWN = 6;

/// What needs somebody, worst first: { kind, text, link }.
export function concerns() {
  const found = [];
  const add = (kind, link, ...text) => found.push({ kind, link, text });
  for (const star of grid.stars.values()) {
    const link = `#/stars/${encodeURIComponent(star.starId)}`;
    const shown = name(star.starId);
    if (star.state !== "STAR_STATE_SHUTDOWN") {
      if (star.liveness === "LIVENESS_LOST") add("bad", link, `${shown} is lost: no heartbeat, and what it held was given back`);
      if (star.liveness === "LIVENESS_SUSPECT") add("warn", link, `${shown} is suspect: its heartbeats have stopped`);
    }
    for (const advisory of advisoriesOf(star)) add(advisory.kind, link, `${shown}: ${name(advisory.message)}`);
    for (const text of star.yields ?? []) add("warn", link, `${shown} yields: ${name(text)}`);
    if (star.isCordoned) add("warn", link, `${shown} is cordoned and receives nothing new`);
    const guard = grid.guards.get(star.starId);
    if (guard?.isPaused) add("warn", link, `${shown} is paused: ${name(guard.pauseReason)}`);
  }
  for (const job of grid.jobs.values()) {
    const link = `#/jobs/${job.jobId}`;
    const isRecent = job.endTime && Date.now() - Date.parse(job.endTime) < ENDED_RECENTLY_MS;
    if (job.state === "JOB_STATE_PAUSED") add("warn", link, `job ${job.jobId} is paused: ${name(job.stateReason)}`);
    if (job.state === "JOB_STATE_FAILED" && isRecent) add("bad", link, `job ${job.jobId} failed: ${name(job.stateReason)}`);
  }
  const dead = number(grid.summary.deadLetters);
  if (dead > 0) add("bad", "#/dead-letters", `${countOf(dead, "item was", "items were")} given up; look, mend and retry`);
  return found.sort((a, b) => (a.kind === "bad" ? 0 : 1) - (b.kind === "bad" ? 0 : 1));
}

/// The headline.
function headline(found) {
  if (grid.link === "lost") return ["off", "Not connected"];
  const bad = found.filter((concern) => concern.kind === "bad").length;
  if (found.length === 0) {
    const running = [...grid.jobs.values()].filter((job) => !isEnded(job)).length;
    return ["good", running > 0 ? `All is well; ${countOf(running, "job runs", "jobs run")}` : "All is well, and nothing runs"];
  }
  return [bad > 0 ? "bad" : "warn", found.length === 1 ? "One thing needs you" : `${count(found.length)} things need you`];
}

function tile(label, value, note, link, kind = "") {
  const inner = [h("span.tile-label", label), h("span.tile-value", value), h("span.tile-note", note)];
  return link ? h(`a.tile.${kind || "plain-tile"}`, { href: link }, inner) : h(`div.tile.${kind || "plain-tile"}`, inner);
}

function tiles() {
  const stars = [...grid.stars.values()].filter((star) => star.state !== "STAR_STATE_SHUTDOWN");
  const alive = stars.filter((star) => star.liveness === "LIVENESS_ALIVE").length;
  const jobs = [...grid.jobs.values()];
  const active = jobs.filter((job) => !isEnded(job));
  const inFlight = active.reduce((sum, job) => sum + number(job.progress?.itemsInFlight), 0);
  const penalized = number(grid.summary.itemsPenalized);
  const now = active.reduce((sum, job) => sum + number(job.progress?.bytesPerSecond), 0);
  const open = number(grid.summary.bulletinsUnacknowledged);
  const dead = number(grid.summary.deadLetters);
  return h("div.tiles",
    tile("Throughput", rate(now), `${countOf(inFlight, "item")} in flight`, null),
    tile("Jobs", count(active.length), active.length === 1 ? "runs" : "run", "#/jobs"),
    tile("Stars", `${alive} of ${stars.length}`, "alive", "#/stars", alive < stars.length ? "bad" : ""),
    tile("Waiting", count(penalized), "after a failure", null, penalized > 0 ? "warn" : ""),
    tile("Dead letters", count(dead), "given up", "#/dead-letters", dead > 0 ? "bad" : ""),
    tile("Bulletins", count(open), "not acknowledged", "#/bulletins", ""));
}

function throughput() {
  const samples = grid.samples.map((sample) => ({ time: sample.time, value: sample.bytesPerSecond }));
  const span = spanOf(samples);
  const words = `last ${Math.round(span / 60)} minutes`;
  return panel("Throughput", words, areaChart({ samples, span, label: "Throughput between Stars" }));
}

function starRows() {
  const stars = [...grid.stars.values()].sort((a, b) => a.starId.localeCompare(b.starId, "en", { numeric: true }));
  return stars.slice(0, 12).map((star) => {
    const disk = diskOf(star);
    const guard = guardOf(star);
    return h("tr", { "data-key": `star-${star.starId}` },
      h("td.strong", starLink(star.starId)),
      h("td", starState(star)),
      h("td.progress", disk ? [bar(disk.used, disk.kind, `disk of ${name(star.starId)}`), h("span.under", disk.words)] : h("span.muted", "no writable root")),
      h("td.progress", guard ? [bar(guard.share, guard.kind, `guard of ${name(star.starId)}`), h("span.under", guard.words)] : "—"),
      h("td.number", rate(star.health?.throughputBytesPerSec)));
  });
}

/// The last piece of a path; where there is more, it is told to those who point at it.
function tail(text) {
  const shown = name(text);
  const end = shown.slice(shown.lastIndexOf("/", shown.length - 2) + 1);
  return h("span.tail", { title: shown }, end);
}

/// What happened to what, in a line.
function eventLine(event) {
  const kind = words(event.type, "PROVENANCE_TYPE_");
  const short = kind.replace("chunk ", "").replace("dead lettered", "given up");
  const isBad = event.type === "PROVENANCE_TYPE_CHUNK_DEAD_LETTERED" || event.type === "PROVENANCE_TYPE_JOB_FAILED";
  const tone = isBad ? "bad" : event.type === "PROVENANCE_TYPE_CHUNK_PENALIZED" ? "warn" : "off";
  const what = event.destination || event.source;
  return h("li.event", { "data-key": `event-${event.eventId}` },
    h("span.muted.when", time(event.time)),
    badge(tone, short),
    event.itemKey ? itemLink(event.itemKey, what ? tail(what) : event.itemKey) : what ? tail(what) : null,
    !what && event.starId ? starLink(event.starId) : null,
    !event.itemKey && event.jobId ? jobLink(event.jobId) : null,
    event.error ? h("span.bad-text.event-error", name(event.error)) : null);
}

export const overview = {
  title: () => "Overview",
  render() {
    const found = concerns();
    const [kind, text] = headline(found);
    const jobs = [...grid.jobs.values()].sort((a, b) => number(b.jobId) - number(a.jobId));
    const active = jobs.filter((job) => !isEnded(job));
    const shown = active.length > 0 ? active.slice(0, 10) : jobs.slice(0, 4);
    // That a file was begun is told by its end soon after.
    const told = grid.events.filter((event) => event.type !== "PROVENANCE_TYPE_FILE_STARTED");
    const open = [...grid.bulletins.values()]
      .filter((bulletin) => !bulletin.isAcknowledged && bulletin.severity !== "SEVERITY_INFO")
      .sort((a, b) => number(b.bulletinId) - number(a.bulletinId));
    return [
      h("div.headline", h(`h1.${kind}-head`, text), tiles()),
      found.length > 0 ? panel("What is wrong", null, h("ul.concerns", found.slice(0, 8).map((concern) =>
        h("li", h(`a.concern.${concern.kind}`, { href: concern.link }, concern.text)))),
      found.length > 8 ? h("p.foot", `and ${found.length - 8} more`) : null) : null,
      h("div.columns",
        h("div.column.main-column",
          panel(active.length > 0 ? "Running jobs" : "Last jobs", h("a", { href: "#/jobs" }, "all jobs"),
            table("Jobs", JOB_HEAD, shown.map(jobRow), "No job was created yet. Make one with: orbit job create star-1:/from star-2:/to")),
          throughput(),
          panel("Stars", h("a", { href: "#/stars" }, "all Stars"),
            table("Stars", ["Star", "State", "Disk", "Guard", "#Moves"], starRows(), "No Star has registered yet. Start one with: orbit-star --coordinator http://HOST:7100"))),
        h("div.column.side-column",
          panel("Bulletins", h("a", { href: "#/bulletins" }, "all bulletins"),
            open.length === 0 ? empty("No warning or error waits to be acknowledged.")
              : h("ul.notices", open.slice(0, BULLETINS_SHOWN).map((bulletin) => bulletinRow(bulletin)))),
          panel("Activity", told.length > 0 ? ago(told[0].time) : null,
            told.length === 0 ? empty("Nothing has happened lately.") : h("ul.events", told.slice(0, 12).map(eventLine))))),
    ];
  },
};
