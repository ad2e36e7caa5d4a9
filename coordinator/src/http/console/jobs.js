// Jobs: the list, and one job with its items and what can be done to it.

import { get, post } from "./api.js";
import { h } from "./dom.js";
import { ago, bytes, clock, count, countOf, duration, name, number, percent, seconds, words } from "./format.js";
import { changed, grid, isEnded } from "./live.js";
import {
  JOB_HEAD, act, badge, bar, button, confirmed, empty, facts, itemLink, jobKind, jobRate, jobRemaining, jobRow, jobShare, jobState,
  jobTitle, pages, panel, path, starLink, table,
} from "./parts.js";

const ENDED_STATES = ["completed", "partially_completed", "failed", "cancelled"];

export function jobsPage({ query }) {
  const wanted = query.get("states") ?? "";
  const ended = pages("/api/jobs", "jobs", { states: wanted || ENDED_STATES.join(",") });
  let endedCount = -1;
  const byNumber = (a, b) => number(b.jobId) - number(a.jobId);
  return {
    title: () => "Jobs",
    start: () => ended.reload(),
    stop() {},
    actions: { more: () => ended.more() },
    render() {
      const known = [...grid.jobs.values()];
      const active = known.filter((job) => !isEnded(job)).sort(byNumber);
      // A job that ends while this is read belongs to the list; more than the first page is not read again for it.
      const count = known.filter(isEnded).length;
      if (count !== endedCount) {
        if (endedCount !== -1 && ended.state.rows.length <= 100) ended.reload();
        endedCount = count;
      }
      const filter = h("label.filter", { for: "states" }, "State",
        h("select", { id: "states", "data-keep": true, "data-filter": "states" },
          h("option", { value: "", selected: wanted === "" }, "all"),
          ENDED_STATES.map((state) => h("option", { value: state, selected: wanted === state }, state.replace("_", " ")))));
      return [
        h("h1", "Jobs"),
        panel("Running", countOf(active.length, "job"), table("Running jobs", JOB_HEAD, active.map(jobRow), "Nothing runs.")),
        panel("Ended", filter, table("Ended jobs", JOB_HEAD, ended.state.rows.map(jobRow),
          ended.isLoading() ? "Loading…" : wanted ? "No job has ended so."
            : "No job has ended yet. Make one with: orbit job create star-1:/from star-2:/to"),
        ended.foot()),
      ];
    },
  };
}

const ITEM_STATES = ["queued", "in_flight", "penalized", "stored", "skipped", "dead"];

export function itemState(state) {
  const text = words(state, "ITEM_STATE_");
  return badge({ stored: "good", skipped: "good", dead: "bad", penalized: "warn", "in flight": "run" }[text] ?? "off", text);
}

export function jobPage({ id, query }) {
  let missing = null;
  /// The job as it was read for this page: the lists of the grid hold only the newest.
  let own = null;
  const wanted = query.get("states") ?? "";
  const items = pages(`/api/jobs/${id}/items`, "items", { states: wanted, page_size: 50 });
  let lastShare = -1;
  const command = (verb, body, done) => act(done, async () => {
    const { job } = await post(`/api/jobs/${id}/${verb}`, body);
    if (job) own = job;
    changed();
  });
  const read = async () => {
    try {
      own = (await get(`/api/jobs/${encodeURIComponent(id)}`)).job;
      missing = null;
    } catch (error) {
      missing = error;
    }
    changed();
  };
  return {
    title: () => `Job ${id}`,
    start() {
      items.reload();
      read();
      document.addEventListener("live", read);
    },
    stop: () => document.removeEventListener("live", read),
    actions: {
      async pause() {
        const reason = await confirmed(`Pause job ${id}? What is in flight ends by itself.`, "Pause");
        if (reason !== null) await command("pause", { reason }, `job ${id} is paused`);
      },
      async resume() {
        await command("resume", {}, `job ${id} goes on`);
      },
      async cancel() {
        const reason = await confirmed(`Cancel job ${id}? What is stored stays; the rest is not moved.`, "Cancel the job");
        if (reason !== null) await command("cancel", { reason }, `job ${id} is cancelled`);
      },
      async retry() {
        await act((result) => `${countOf(result.retriedCount, "item")} queued again`, () => post("/api/dead-letters/retry", { jobId: id }));
      },
      more: () => items.more(),
      "reload-items": () => items.reload(),
    },
    render() {
      const job = grid.jobs.get(id) ?? own;
      if (!job) return [h("h1", `Job ${id}`), empty(missing ? `${missing.message} ${missing.advice ?? ""}` : "Loading…")];
      const share = Math.floor(jobShare(job) * 20);
      // The list is read again from time to time while the job moves, and once at its end.
      if (share !== lastShare) {
        if (lastShare !== -1 && items.state.rows.length <= 100) items.reload();
        lastShare = share;
      }
      return [heading(job), ...body(job, items, wanted)];
    },
  };
}

function heading(job) {
  const id = job.jobId;
  const isPaused = job.state === "JOB_STATE_PAUSED";
  return h("div.page-head", h("h1", `Job ${id}`), jobState(job), h("div.grow"),
    h("div.buttons",
      isEnded(job) ? null : isPaused ? button("resume", id, "Resume") : button("pause", id, "Pause…"),
      isEnded(job) ? null : button("cancel", id, "Cancel…", { kind: "danger" }),
      number(job.progress?.itemsDead) > 0 ? button("retry", id, "Retry dead letters") : null));
}

function body(job, items, wanted) {
  const progress = job.progress ?? {};
  const spec = job.spec ?? {};
  const { source, places } = jobTitle(job);
  const share = jobShare(job);
  const left = seconds(progress.estimatedRemaining);
  const rows = items.state.rows.map((item) => h("tr", { "data-key": `item-${item.itemKey}` },
    h("td", itemState(item.state)),
    h("td.wide", itemLink(item.itemKey, path(item.path || "(the source itself)"))),
    h("td", words(item.kind, "ENTRY_KIND_")),
    h("td.number", item.kind === "ENTRY_KIND_FILE" ? bytes(item.sizeBytes) : "—"),
    h("td", starLink(item.starId)),
    h("td.number", count(item.attempts ?? 0))));
  const known = number(progress.itemsTotal);
  const pieces = [
    ["good", "stored", progress.itemsStored], ["calm", "unchanged", progress.itemsSkipped], ["run", "in flight", progress.itemsInFlight],
    ["warn", "waiting after a failure", progress.itemsPenalized], ["bad", "dead", progress.itemsDead],
  ];
  return [
    panel("Progress", isEnded(job) ? `ended ${ago(job.endTime)}` : left === null ? null : `${duration(left)} left`,
      h("p.reason", name(job.stateReason)),
      bar(share, jobKind(job), `progress of job ${job.jobId}`),
      h("div.big-row",
        big(percent(share, 1), "done"), big(jobRate(job), "rate"), big(jobRemaining(job).replace(" left", ""), isEnded(job) ? "ended" : "remaining"),
        big(`${bytes(progress.bytesStored)}`, `of ${bytes(progress.bytesTotal)}`),
        big(bytes(progress.bytesTransferred), "crossed the network"), big(bytes(progress.bytesDeduplicated), "did not have to")),
      h("div.stack", { role: "img", "aria-label": pieces.map(([, text, value]) => `${count(value)} ${text}`).join(", ") },
        pieces.map(([kind, , value]) => h(`div.stack-piece.${kind}`, { style: { "flex-grow": String(known ? number(value) / known : 0) } })),
        h("div.stack-rest", { style: { "flex-grow": String(known ? Math.max(0, 1 - pieces.reduce((sum, [, , value]) => sum + number(value), 0) / known) : 1) } })),
      h("ul.legend", pieces.map(([kind, text, value]) => h("li", h(`span.swatch.${kind}`, { "aria-hidden": "true" }), `${count(value)} ${text}`)),
        h("li.muted", `of ${countOf(known, "item")}${job.state === "JOB_STATE_SCANNING" ? " so far" : ""}`))),
    h("div.columns",
      h("div.column.main-column",
        panel("Items", h("span.buttons", h("label.filter", { for: "states" }, "State",
          h("select", { id: "states", "data-keep": true, "data-filter": "states" },
            h("option", { value: "", selected: wanted === "" }, "all"),
            ITEM_STATES.map((state) => h("option", { value: state, selected: wanted === state }, state.replace("_", " "))))),
        button("reload-items", "", "Reload", { kind: "small" })),
        table("Items", ["State", "Path", "Kind", "#Size", "To", "#Failed"], rows, items.isLoading() ? "Loading…" : "No item is in this state."),
        items.foot())),
      h("div.column.side-column",
        panel("Asked for", null, facts([
          ["From", path(source)],
          ...places.map((place) => ["To", path(`${place.starId}:${place.path ?? ""}`)]),
          ["Layout", words(spec.layout, "LAYOUT_") || "files"],
          spec.include?.length ? ["Only", spec.include.map((glob) => h("code", name(glob)))] : null,
          spec.exclude?.length ? ["Without", spec.exclude.map((glob) => h("code", name(glob)))] : null,
          number(spec.maxBytesPerSecond) > 0 ? ["At most", `${bytes(spec.maxBytesPerSecond)}/s`] : null,
          ["Order", (spec.prioritizers ?? []).map((kind) => words(kind, "PRIORITIZER_")).join(", then ")],
          spec.tags?.length ? ["Tags", spec.tags.map(name).join(", ")] : null,
          ["Created", clock(job.createTime)],
          job.endTime ? ["Ended", clock(job.endTime)] : null,
        ])),
        job.snapshotIds?.length ? panel("Snapshots", null, h("ul.plain-list", job.snapshotIds.map((snapshot) => h("li", h("code", snapshot))))) : null,
        panel("More", null, h("ul.plain-list",
          h("li", h("a", { href: `#/bulletins?job_id=${job.jobId}` }, "its bulletins")),
          h("li", h("a", { href: `#/dead-letters?job_id=${job.jobId}` }, "its dead letters")))))),
  ];
}

function big(value, label) {
  return h("div.big", h("span.big-value", value), h("span.big-label", label));
}
