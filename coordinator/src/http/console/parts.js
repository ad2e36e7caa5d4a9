// The pieces that pages are made of.

import { get, post } from "./api.js";
import { h } from "./dom.js";
import { ago, bytes, clock, count, countOf, duration, name, number, percent, rate, seconds, words } from "./format.js";
import { changed, grid, isEnded } from "./live.js";

export function panel(title, aside, ...children) {
  const id = `panel-${title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  return h("section.panel", { "aria-labelledby": id, "data-key": id },
    h("header.panel-head", h("h2", { id }, title), aside ? h("div.aside", aside) : null),
    children);
}

export function empty(...text) {
  return h("p.empty", text);
}

/// A word with a colour and a shape, so that it can be told apart without colours.
export function badge(kind, text) {
  return h(`span.badge.${kind}`, text);
}

export function bar(share, kind, label) {
  const width = `${Math.max(0, Math.min(1, share || 0)) * 100}%`;
  return h("div.meter", { role: "progressbar", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.floor((share || 0) * 100) },
    h(`div.meter-fill.${kind}`, { style: { width } }));
}

export function time(text) {
  return text ? h("time", { datetime: text, title: clock(text) }, ago(text)) : "—";
}

/// Buttons that only read; all others change something.
const READING = ["more", "reload-items"];

export function button(act, of, label, options = {}) {
  const { kind = "", ...attributes } = options;
  if (grid.role === "viewer" && !READING.includes(act)) {
    Object.assign(attributes, { disabled: true, title: "clients of this port may only look: see --http-role" });
  }
  return h(`button.${kind || "plain"}`, { type: "button", "data-act": act, "data-of": of, ...attributes }, label);
}

export function starLink(id) {
  if (!id) return "—";
  if (id === "coordinator") return "coordinator";
  return h("a", { href: `#/stars/${encodeURIComponent(id)}` }, name(id));
}

export function jobLink(id, text = `job ${id}`) {
  return id && id !== "0" ? h("a", { href: `#/jobs/${id}` }, text) : "—";
}

export function itemLink(key, text = key) {
  return key ? h("a", { href: `#/items/${key}` }, text) : "—";
}

/// A path with what leads to it faded, so that the end can be read where there is no room.
export function path(text) {
  const shown = name(text);
  const cut = shown.lastIndexOf("/", shown.length - 2) + 1;
  return h("span.path", { title: shown }, h("span.path-head", shown.slice(0, cut)), h("span.path-tail", shown.slice(cut)));
}

export function facts(pairs) {
  return h("dl.facts", pairs.filter(Boolean).map(([term, ...value]) => h("div", h("dt", term), h("dd", value))));
}

export function table(label, head, rows, note) {
  if (rows.length === 0) return empty(note);
  const labels = head.map((text) => text.replace("#", ""));
  for (const row of rows) [...row.children].forEach((cell, index) => cell.setAttribute("data-label", labels[index]));
  return h("div.scroll", { tabindex: 0, role: "region", "aria-label": label },
    h("table", h("thead", h("tr", head.map((text) => {
      const isNumber = text.startsWith("#");
      return h(isNumber ? "th.number" : "th", { scope: "col" }, isNumber ? text.slice(1) : text);
    }))), h("tbody", rows)));
}

// ---- what things say of themselves

export function jobState(job) {
  const state = words(job.state, "JOB_STATE_");
  const kind = {
    scanning: "run", running: "run", paused: "warn", completed: "good", "partially completed": "warn", failed: "bad", cancelled: "off",
  }[state] ?? "off";
  return badge(kind, state);
}

export function jobShare(job) {
  const progress = job.progress ?? {};
  const total = number(progress.bytesTotal);
  const items = number(progress.itemsTotal);
  const done = number(progress.itemsStored) + number(progress.itemsSkipped);
  if (job.state === "JOB_STATE_COMPLETED") return 1;
  if (total === 0) return items === 0 ? 0 : done / items;
  // Bytes are what takes time; a job whose bytes are all there may still have directories to do.
  const share = number(progress.bytesStored) / total;
  return isEnded(job) ? share : Math.min(share, items > 0 && done < items ? 0.999 : 1);
}

export function jobKind(job) {
  return { JOB_STATE_COMPLETED: "good", JOB_STATE_PARTIALLY_COMPLETED: "warn", JOB_STATE_FAILED: "bad", JOB_STATE_PAUSED: "warn", JOB_STATE_CANCELLED: "off" }[job.state] ?? "run";
}

export function jobTitle(job) {
  const spec = job.spec ?? {};
  const places = spec.destinations ?? [];
  const to = places.map((place) => place.starId).join(", ");
  return { source: `${spec.source?.starId ?? "?"}:${spec.source?.path ?? ""}`, to, places };
}

export function jobRate(job) {
  const progress = job.progress ?? {};
  if (isEnded(job)) return "—";
  return progress.bytesPerSecond ? rate(progress.bytesPerSecond) : "0 B/s";
}

export function jobRemaining(job) {
  if (isEnded(job)) return job.endTime ? ago(job.endTime) : "—";
  if (job.state === "JOB_STATE_PAUSED") return "paused";
  const left = seconds(job.progress?.estimatedRemaining);
  if (left !== null) return `${duration(left)} left`;
  return job.state === "JOB_STATE_SCANNING" ? "listing" : "—";
}

export function jobRow(job) {
  const { source, to } = jobTitle(job);
  const progress = job.progress ?? {};
  const share = jobShare(job);
  const dead = number(progress.itemsDead);
  return h("tr", { "data-key": `job-${job.jobId}` },
    h("td", h("a.strong", { href: `#/jobs/${job.jobId}`, "aria-label": `job ${job.jobId}` }, `#${job.jobId}`)),
    h("td.state", jobState(job)),
    h("td.wide", path(source), h("span.arrow", { "aria-label": "to" }, " → "), h("span", name(to))),
    h("td.progress", bar(share, jobKind(job), `progress of job ${job.jobId}`),
      h("span.under", `${percent(share, 1)} · ${bytes(progress.bytesStored)} of ${bytes(progress.bytesTotal)}`)),
    h("td.number", jobRate(job)),
    h("td.number", jobRemaining(job)),
    h("td.number", dead > 0 ? h("a.bad-text", { href: `#/dead-letters?job_id=${job.jobId}` }, count(dead)) : "0"));
}

export const JOB_HEAD = ["Job", "State", "From and to", "Progress", "#Rate", "#Time", "#Dead"];

export function starState(star) {
  const liveness = words(star.liveness, "LIVENESS_");
  const state = words(star.state, "STAR_STATE_");
  const badges = [];
  // That it is lost is the trouble of a Star that is wanted, not of one that was told to leave.
  if (state === "shutdown") badges.push(badge("off", state));
  else {
    badges.push(badge({ alive: "good", suspect: "warn", lost: "bad" }[liveness] ?? "off", liveness));
    if (state !== "scheduled") badges.push(badge(state === "draining" ? "warn" : "off", star.isDrained ? "drained" : state));
  }
  if (star.isCordoned) badges.push(badge("warn", "cordoned"));
  return h("span.badges", badges);
}

const GRAVE = ["DISK_CRITICAL", "DISK_EXHAUSTION_PREDICTED", "ERROR_RATE_HIGH"];

export function advisoriesOf(star) {
  const held = (star.advisories ?? []).filter((advisory) => advisory.type !== "ADVISORY_TYPE_HEALTHY");
  return held.map((advisory) => {
    const isGrave = GRAVE.includes(words(advisory.type, "ADVISORY_TYPE_").toUpperCase().replaceAll(" ", "_"));
    return { ...advisory, kind: isGrave ? "bad" : "warn", words: words(advisory.type, "ADVISORY_TYPE_") };
  });
}

export function diskOf(star) {
  const total = number(star.health?.diskTotalBytes);
  if (!total) return null;
  const free = number(star.health.diskAvailableBytes);
  const forecast = advisoriesOf(star).find((advisory) => number(advisory.predictedSeconds) > 0);
  const used = 1 - free / total;
  const kind = used > 0.95 ? "bad" : used > 0.85 ? "warn" : "calm";
  const words = forecast ? `full in about ${duration(number(forecast.predictedSeconds))}` : `${bytes(free)} free`;
  return { total, free, used, kind: forecast ? "bad" : kind, words };
}

export function guardOf(star) {
  const guard = grid.guards.get(star.starId);
  if (!guard) return null;
  const objects = number(guard.objectCount) / Math.max(1, number(guard.maxObjectCount));
  const size = number(guard.byteSize) / Math.max(1, number(guard.maxByteSize));
  const share = Math.max(objects, size);
  const words = guard.isPaused ? "paused" : `${countOf(guard.objectCount, "item")}, ${bytes(guard.byteSize)}`;
  return { guard, share, words, kind: guard.isPaused ? "warn" : guard.isAccepting ? "calm" : "warn" };
}

export function severity(bulletin) {
  const text = words(bulletin.severity, "SEVERITY_");
  return badge({ error: "bad", warning: "warn" }[text] ?? "info", text);
}

export function bulletinRow(bulletin, canAcknowledge = true) {
  const repeats = number(bulletin.repeatCount);
  const isSeen = Boolean(bulletin.isAcknowledged);
  return h(`li.notice.${isSeen ? "seen" : "open"}`, { "data-key": `bulletin-${bulletin.bulletinId}` },
    h("div.notice-head", severity(bulletin), h("span.muted", name(bulletin.category)), starLink(bulletin.starId),
      bulletin.jobId ? jobLink(bulletin.jobId) : null,
      repeats > 0 ? h("span.muted", `${countOf(repeats + 1, "time")}`) : null,
      h("span.grow"), isSeen ? h("span.muted", "acknowledged") : null, h("span.muted", time(bulletin.time))),
    h("div.notice-body", h("p.notice-text", name(bulletin.message)),
      canAcknowledge && !isSeen
        ? button("acknowledge", bulletin.bulletinId, "Acknowledge", { kind: "small", "aria-label": `acknowledge bulletin ${bulletin.bulletinId}` })
        : null));
}

export async function acknowledge(ids) {
  await act(`acknowledged ${countOf(ids.length, "bulletin")}`, async () => {
    // So many may be named at once.
    for (let from = 0; from < ids.length; from += 1000) {
      await post("/api/bulletins/acknowledge", { bulletinIds: ids.slice(from, from + 1000) });
    }
    for (const id of ids) {
      const bulletin = grid.bulletins.get(id);
      if (bulletin) grid.bulletins.set(id, { ...bulletin, isAcknowledged: true });
    }
    changed();
  });
}

/// Does something and says what came of it.
export async function act(done, work) {
  try {
    const result = await work();
    toast("good", typeof done === "function" ? done(result) : done);
    return result;
  } catch (error) {
    toast("bad", error.message, error.advice);
    return null;
  }
}

export function toast(kind, ...texts) {
  const element = h(`div.toast.${kind}`, h("div", texts.filter(Boolean).map((text) => h("p", text))));
  const close = h("button.small", { type: "button", "aria-label": "dismiss", onclick: () => element.remove() }, "×");
  element.append(close);
  document.getElementById("toasts").append(element);
  setTimeout(() => element.remove(), kind === "bad" ? 12000 : 4000);
}

/// Asks before something that cannot be taken back; gives what was typed as a reason, or null.
export function confirmed(question, verb, withReason = true) {
  return new Promise((resolve) => {
    const reason = h("input", { type: "text", id: "reason", maxlength: 200, autocomplete: "off" });
    const dialog = h("dialog", { "aria-labelledby": "dialog-question" },
      h("form", { method: "dialog" },
        h("p", { id: "dialog-question" }, question),
        withReason ? h("label", { for: "reason" }, "Reason (shown to others)", reason) : null,
        h("div.buttons",
          // Not a submit button: Enter in the field does what was asked for.
          h("button.plain", { type: "button", onclick: () => dialog.close("no") }, "Keep as it is"),
          h("button.danger", { value: "yes", autofocus: !withReason }, verb))));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes" ? reason.value : null);
    });
    document.body.append(dialog);
    dialog.returnValue = "no";
    dialog.showModal();
  });
}

/// A list that is read page by page. `show` makes a row of an element.
export function pages(path, key, parameters) {
  const state = { rows: [], token: "", isDone: false, isBusy: false, error: null };
  const read = async (isFirst) => {
    if (state.isBusy) return;
    state.isBusy = true;
    try {
      let token = isFirst ? "" : state.token;
      let rows = isFirst ? [] : state.rows;
      let found = [];
      do {
        const page = await get(path, { page_size: 100, ...parameters, page_token: token });
        found = page[key] ?? [];
        rows = rows.concat(found);
        token = page.nextPageToken ?? "";
        // With a filter a page may be empty and yet not be the last.
      } while (found.length === 0 && token);
      Object.assign(state, { rows, token, isDone: !token, error: null });
    } catch (error) {
      state.error = error;
    }
    state.isBusy = false;
    changed();
  };
  return {
    state,
    reload: () => read(true),
    more: () => read(false),
    foot: () => state.error
      ? h("p.empty.bad-text", { role: "alert" }, state.error.message, " ", state.error.advice ?? "")
      : state.isDone || state.rows.length === 0 ? null : h("p.foot", button("more", "", "Show more")),
    isLoading: () => state.rows.length === 0 && !state.isDone && !state.error,
  };
}
