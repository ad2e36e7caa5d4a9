// One item: where it is, what holds it, and all that ever happened to it.

import { get, post } from "./api.js";
import { h } from "./dom.js";
import { bytes, clock, count, countOf, duration, name, number, words } from "./format.js";
import { changed } from "./live.js";
import { itemState } from "./jobs.js";
import { act, badge, button, empty, facts, jobLink, pages, panel, path, starLink, time } from "./parts.js";

export function itemPage({ key }) {
  let explained = null;
  let problem = null;
  let timer = null;
  const lineage = pages("/api/provenance", "events", { item_key: key });
  const read = async () => {
    try {
      const before = explained?.item;
      explained = await get(`/api/items/${key.split("/").map(encodeURIComponent).join("/")}`);
      problem = null;
      const { state, attempts } = explained.item;
      // What happened to it is read again when something has.
      if (before && (before.state !== state || before.attempts !== attempts)) lineage.reload();
    } catch (error) {
      problem = error;
    }
    changed();
  };
  return {
    title: () => `Item ${key}`,
    start() {
      read();
      lineage.reload();
      timer = setInterval(() => {
        if (!document.hidden && !isSettled(explained)) read();
      }, 1500);
    },
    stop: () => clearInterval(timer),
    actions: {
      async retry() {
        await act((result) => `${countOf(result.retriedCount, "item")} queued again`, () => post("/api/dead-letters/retry", { itemKey: key }));
        await read();
        lineage.reload();
      },
      more: () => lineage.more(),
    },
    render() {
      if (!explained) return [h("h1", `Item ${name(key)}`), empty(problem ? `${problem.message} ${problem.advice ?? ""}` : "Loading…")];
      const { item, gate, explanation, earliestTime, deadLetter } = explained;
      return [
        h("div.page-head", h("h1.item-title", path(item.path || "(the source itself)")), itemState(item.state), h("div.grow"),
          h("div.buttons", deadLetter ? button("retry", key, "Retry", { kind: "primary" }) : null)),
        h("div.pair", panel("Where it is", null, h("p.reason", name(explanation)), facts([
          ["Job", jobLink(item.itemKey.split("/")[0])],
          ["Goes to", starLink(item.starId)],
          ["Held by", gate ? badge("warn", words(gate, "GATE_")) : "nothing"],
          earliestTime ? ["Not before", clock(earliestTime)] : null,
          ["Kind", words(item.kind, "ENTRY_KIND_")],
          item.kind === "ENTRY_KIND_FILE" ? ["Size", bytes(item.sizeBytes)] : null,
          ["Failed attempts", count(item.attempts ?? 0)],
          ["Key", h("code", item.itemKey)],
        ])),
        deadLetter ? panel("Given up", time(deadLetter.lastFailTime), h("p.reason.bad-text", name(deadLetter.lastError)), facts([
          ["Reason", words(deadLetter.failureReason, "FAILURE_REASON_")],
          ["Attempts", count(deadLetter.attempts)],
          ["Retried before", countOf(deadLetter.redriveCount ?? 0, "time")],
          ["Read from", path(deadLetter.sourcePath)],
          ["Meant for", path(deadLetter.destPath)],
        ])) : null),
        panel("Lineage", "oldest first",
          lineage.state.rows.length === 0 ? empty(lineage.isLoading() ? "Loading…" : "Nothing is recorded about this item.")
            : h("ol.lineage", lineage.state.rows.map(step)),
          lineage.foot()),
      ];
    },
  };
}

function isSettled(explained) {
  return ["ITEM_STATE_STORED", "ITEM_STATE_SKIPPED", "ITEM_STATE_DEAD"].includes(explained?.item?.state);
}

function step(event) {
  const kind = words(event.type, "PROVENANCE_TYPE_");
  const tone = event.error ? (event.type === "PROVENANCE_TYPE_CHUNK_DEAD_LETTERED" ? "bad" : "warn")
    : event.type === "PROVENANCE_TYPE_FILE_COMPLETED" || event.type === "PROVENANCE_TYPE_FILE_SKIPPED" ? "good" : "run";
  return h(`li.step.${tone}`, { "data-key": `event-${event.eventId}` },
    h("div.step-head", h("span.strong", kind), h("span.muted", clock(event.time)), event.starId ? starLink(event.starId) : null,
      number(event.bytes) > 0 ? h("span.muted", bytes(event.bytes)) : null,
      number(event.durationMs) > 0 ? h("span.muted", duration(number(event.durationMs) / 1000)) : null),
    event.source || event.destination ? h("p.step-way", event.source ? path(event.source) : null, event.destination ? [" → ", path(event.destination)] : null) : null,
    event.error ? h("p.bad-text", name(event.error)) : null);
}
