// Bulletins and dead letters, each with filters and what can be done.

import { post } from "./api.js";
import { h } from "./dom.js";
import { count, countOf, name, number, words } from "./format.js";
import { grid } from "./live.js";
import { acknowledge, act, badge, bulletinRow, button, confirmed, empty, itemLink, jobLink, pages, panel, path, starLink, table, time } from "./parts.js";

function filter(id, label, value, options) {
  const field = options
    ? h("select", { id, "data-filter": id }, options.map(([option, text]) => h("option", { value: option, selected: option === value }, text)))
    : h("input", { id, "data-filter": id, value, type: "search", autocomplete: "off", spellcheck: "false" });
  return h("label.filter", { for: id }, label, field);
}

const SEVERITIES = [["", "all"], ["info", "info"], ["warning", "warnings and errors"], ["error", "errors"]];
const RANK = { SEVERITY_INFO: 1, SEVERITY_WARNING: 2, SEVERITY_ERROR: 3 };

export function bulletinsPage({ query }) {
  const wanted = Object.fromEntries(["min_severity", "star_id", "category", "job_id", "seen"].map((key) => [key, query.get(key) ?? ""]));
  const matches = (bulletin) => (!wanted.min_severity || (RANK[bulletin.severity] ?? 0) >= RANK[`SEVERITY_${wanted.min_severity.toUpperCase()}`])
    && (!wanted.star_id || bulletin.starId === wanted.star_id)
    && (!wanted.category || bulletin.category === wanted.category)
    && (!wanted.job_id || bulletin.jobId === wanted.job_id)
    && (wanted.seen !== "open" || !bulletin.isAcknowledged);
  const shown = () => [...grid.bulletins.values()].filter(matches).sort((a, b) => number(b.bulletinId) - number(a.bulletinId));
  return {
    title: () => "Bulletins",
    start() {},
    stop() {},
    actions: {
      async "acknowledge-all"() {
        const ids = shown().filter((bulletin) => !bulletin.isAcknowledged).map((bulletin) => bulletin.bulletinId);
        if (ids.length > 0) await acknowledge(ids);
      },
    },
    render() {
      const found = shown();
      const open = found.filter((bulletin) => !bulletin.isAcknowledged).length;
      return [
        h("div.page-head", h("h1", "Bulletins"), h("div.grow"), h("div.buttons",
          button("acknowledge-all", "", `Acknowledge ${open > 1 ? `all ${open}` : "all"}`, { disabled: open === 0 }))),
        h("form.filters", { "data-keep": true, "aria-label": "Filter", "data-key": "filters" },
          filter("min_severity", "Severity", wanted.min_severity, SEVERITIES),
          filter("seen", "Show", wanted.seen, [["", "all"], ["open", "not acknowledged"]]),
          filter("star_id", "Star", wanted.star_id), filter("category", "Category", wanted.category), filter("job_id", "Job", wanted.job_id)),
        panel("Notices", `${countOf(found.length, "bulletin")}, ${count(open)} not acknowledged`,
          found.length === 0 ? empty("No bulletin matches.") : h("ul.notices", found.slice(0, 300).map((bulletin) => bulletinRow(bulletin)))),
      ];
    },
  };
}

const REASONS = ["retries_exhausted", "permanent_error", "checksum_mismatch", "source_missing", "destination_error", "data_corruption"];

export function deadLettersPage({ query }) {
  const wanted = Object.fromEntries(["failure_reason", "star_id", "job_id", "item_key"].map((key) => [key, query.get(key) ?? ""]));
  const letters = pages("/api/dead-letters", "deadLetters", wanted);
  const condition = () => {
    const body = {};
    if (wanted.job_id) body.jobId = wanted.job_id;
    if (wanted.failure_reason) body.failureReason = `FAILURE_REASON_${wanted.failure_reason.toUpperCase()}`;
    if (wanted.star_id) body.starId = wanted.star_id;
    if (wanted.item_key) body.itemKey = wanted.item_key;
    return body;
  };
  const hasCondition = Object.values(wanted).some(Boolean);
  const reload = () => letters.reload();
  const retried = (result) => `${countOf(result.retriedCount, "item")} queued again`;
  return {
    title: () => "Dead letters",
    start() {
      letters.reload();
      document.addEventListener("dead-letters-changed", reload);
    },
    stop: () => document.removeEventListener("dead-letters-changed", reload),
    actions: {
      async retry(key) {
        await act(retried, () => post("/api/dead-letters/retry", { itemKey: key }));
        letters.reload();
      },
      async discard(key) {
        if ((await confirmed(`Discard the dead letter of item ${key}? It stays counted as dead in its job.`, "Discard", false)) === null) return;
        await act("discarded", () => post("/api/dead-letters/discard", { itemKey: key }));
        letters.reload();
      },
      async "retry-all"() {
        await act(retried, () => post("/api/dead-letters/retry", condition()));
        letters.reload();
      },
      async "discard-all"() {
        if ((await confirmed("Discard every dead letter that matches the filter?", "Discard them", false)) === null) return;
        await act((result) => `${countOf(result.discardedCount, "dead letter")} discarded`, () => post("/api/dead-letters/discard", condition()));
        letters.reload();
      },
      more: () => letters.more(),
    },
    render() {
      const rows = letters.state.rows.map((letter) => h("tr", { "data-key": `letter-${letter.deadLetterId}` },
        h("td", badge("bad", words(letter.failureReason, "FAILURE_REASON_"))),
        h("td.wide", itemLink(letter.itemKey, path(letter.sourcePath || letter.itemKey)), h("span.under.bad-text", name(letter.lastError))),
        h("td", starLink(letter.starId)),
        h("td", jobLink(letter.jobId)),
        h("td.number", count(letter.attempts)),
        h("td", time(letter.lastFailTime)),
        h("td", h("span.buttons", button("retry", letter.itemKey, "Retry", { kind: "small", "aria-label": `retry ${name(letter.sourcePath)}` }),
          button("discard", letter.itemKey, "Discard…", { kind: "small", "aria-label": `discard ${name(letter.sourcePath)}` })))));
      return [
        h("div.page-head", h("h1", "Dead letters"), h("div.grow"), h("div.buttons",
          button("retry-all", "", "Retry all shown", { disabled: !hasCondition, title: hasCondition ? "" : "set a filter first" }),
          button("discard-all", "", "Discard…", { kind: "danger", disabled: !hasCondition, title: hasCondition ? "" : "set a filter first" }))),
        h("form.filters", { "data-keep": true, "aria-label": "Filter", "data-key": "filters" },
          filter("failure_reason", "Reason", wanted.failure_reason, [["", "all"], ...REASONS.map((reason) => [reason, reason.replace("_", " ")])]),
          filter("star_id", "Destination", wanted.star_id), filter("job_id", "Job", wanted.job_id), filter("item_key", "Item", wanted.item_key)),
        panel("Given up", countOf(number(grid.summary.deadLetters), "dead letter"),
          table("Dead letters", ["Reason", "What and why", "To", "Job", "#Tries", "Last", "Do"], rows,
            letters.isLoading() ? "Loading…" : hasCondition ? "No dead letter matches." : "Nothing was given up."),
          letters.foot()),
      ];
    },
  };
}
