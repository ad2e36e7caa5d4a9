// Stars: the list, and one Star with what can be done to it.

import { get, part, post } from "./api.js";
import { areaChart, spanOf } from "./chart.js";
import { h } from "./dom.js";
import { bytes, count, countOf, name, number, percent, rate, words } from "./format.js";
import { changed, grid } from "./live.js";
import {
  act, advisoriesOf, badge, bar, bulletinRow, button, confirmed, diskOf, empty, facts, guardOf, jobLink, panel, starLink, starState, table, time,
} from "./parts.js";

export const stars = {
  title: () => "Stars",
  render() {
    const all = [...grid.stars.values()].sort((a, b) => a.starId.localeCompare(b.starId, "en", { numeric: true }));
    const rows = all.map((star) => {
      const disk = diskOf(star);
      const guard = guardOf(star);
      const advisories = advisoriesOf(star);
      return h("tr", { "data-key": `star-${star.starId}` },
        h("td.strong", starLink(star.starId)),
        h("td", starState(star)),
        h("td.progress", disk ? [bar(disk.used, disk.kind, `disk of ${name(star.starId)}`), h("span.under", `${disk.words} of ${bytes(disk.total)}`)] : h("span.muted", "no writable root")),
        h("td.progress", guard ? [bar(guard.share, guard.kind, `guard of ${name(star.starId)}`), h("span.under", guard.words)] : "—"),
        h("td.number", count(star.activeTasks ?? 0)),
        h("td.number", rate(star.health?.throughputBytesPerSec)),
        h("td", h("span.badges", advisories.length === 0 ? h("span.muted", "healthy") : advisories.map((advisory) => badge(advisory.kind, advisory.words)))));
    });
    return [h("h1", "Stars"), panel("All Stars", countOf(all.length, "Star"),
      table("Stars", ["Star", "State", "Disk", "Guard", "#Tasks", "#Moves", "Health"], rows,
        "No Star has registered yet. Start one with: orbit-star --star-id star-1 --coordinator http://HOST:7100 --root /data --vault /var/lib/orbit"))];
  },
};

const SNAPSHOTS_SHOWN = 8;

export function starPage({ id }) {
  let history = [];
  let snapshots = [];
  let timer = null;
  const read = async () => {
    try {
      const { samples } = await get(`/api/stars/${part(id)}/health`);
      history = samples ?? [];
      const listed = await get("/api/snapshots", { star_id: id, page_size: SNAPSHOTS_SHOWN });
      snapshots = listed.snapshots ?? [];
      changed();
    } catch {
      // The Star itself says whether it is there.
    }
  };
  const command = (verb, body, done) => act(done, async () => {
    const { star } = await post(`/api/stars/${part(id)}/${verb}`, body);
    if (star) grid.stars.set(star.starId, star);
    changed();
  });
  return {
    title: () => name(id),
    start() {
      read();
      timer = setInterval(read, 4000);
    },
    stop: () => clearInterval(timer),
    actions: {
      async drain() {
        const reason = await confirmed(`Drain ${name(id)}? It ends what it holds and receives nothing new.`, "Drain");
        if (reason !== null) await command("drain", { reason }, `${name(id)} drains`);
      },
      async cordon() {
        await command("cordon", {}, `${name(id)} is cordoned`);
      },
      async uncordon() {
        await command("uncordon", {}, `${name(id)} is in use again`);
      },
      async schedule() {
        await command("schedule", { reason: "scheduled in the console" }, `${name(id)} receives work`);
      },
      async "pause-guard"() {
        const reason = await confirmed(`Pause ${name(id)}? What it holds ends by itself.`, "Pause");
        if (reason === null) return;
        await act(`${name(id)} is paused`, async () => keep(await post(`/api/guards/${part(id)}/pause`, { reason: reason || "paused in the console" })));
      },
      async "resume-guard"() {
        await act(`${name(id)} goes on`, async () => keep(await post(`/api/guards/${part(id)}/resume`)));
      },
    },
    render() {
      const star = grid.stars.get(id);
      if (!star) {
        return [h("h1", name(id)), empty(grid.link === "connecting" ? "Loading…" : "This grid has no such Star; it may have been removed.")];
      }
      return [heading(star), ...body(star, history, snapshots)];
    },
  };
}

function keep({ guard }) {
  if (guard) grid.guards.set(guard.starId, guard);
  changed();
}

function heading(star) {
  const id = star.starId;
  const state = words(star.state, "STAR_STATE_");
  const guard = grid.guards.get(id);
  return h("div.page-head", h("h1", name(id)), starState(star), h("div.grow"),
    h("div.buttons",
      state === "registered" || state === "draining" ? button("schedule", id, "Schedule") : null,
      state === "scheduled" ? button("drain", id, "Drain…") : null,
      star.isCordoned ? button("uncordon", id, "Uncordon") : button("cordon", id, "Cordon"),
      guard?.isPaused ? button("resume-guard", id, "Resume guard") : button("pause-guard", id, "Pause guard…")));
}

function body(star, history, snapshots) {
  const disk = diskOf(star);
  const guard = guardOf(star);
  const limits = grid.guards.get(star.starId);
  const health = star.health ?? {};
  const trouble = [
    ...(star.drainBlockers ?? []).map((text) => ["warn", `drain waits: ${text}`]),
    ...(star.drainWarnings ?? []).map((text) => ["warn", text]),
    ...(star.yields ?? []).map((text) => ["warn", text]),
    ...advisoriesOf(star).map((advisory) => [advisory.kind, advisory.message]),
    ...(limits?.isPaused ? [["warn", `guard paused: ${limits.pauseReason}`]] : []),
  ];
  const samples = history.map(({ time: at, sample }) => ({ time: at, value: sample?.throughputBytesPerSec ?? 0 }));
  const free = history.map(({ time: at, sample }) => ({ time: at, value: sample?.diskAvailableBytes ?? 0 }));
  const span = spanOf(history);
  const bulletins = [...grid.bulletins.values()].filter((bulletin) => bulletin.starId === star.starId)
    .sort((a, b) => number(b.bulletinId) - number(a.bulletinId)).slice(0, 10);
  return [
    trouble.length > 0 ? panel("What is wrong", null, h("ul.concerns", trouble.map(([kind, text]) => h("li", h(`p.concern.${kind}`, name(text)))))) : null,
    h("div.columns",
      h("div.column.main-column",
        panel("Throughput", "sent and received", areaChart({ samples, span, label: "Throughput of this Star" })),
        panel("Free disk", disk ? disk.words : null, disk ? areaChart({ samples: free, span, label: "Free disk", format: bytes }) : empty("It has no root that can be written.")),
        panel("Bulletins", null, bulletins.length === 0 ? empty("Nothing was said about this Star.") : h("ul.notices", bulletins.map((bulletin) => bulletinRow(bulletin))))),
      h("div.column.side-column",
        panel("Guard", guard ? percent(guard.share, 1) : null, guard ? [
          bar(guard.share, guard.kind, "guard"),
          facts([
            ["Items", `${count(limits.objectCount)} of ${count(limits.maxObjectCount)}`],
            ["Bytes", `${bytes(limits.byteSize)} of ${bytes(limits.maxByteSize)}`],
            ["Accepts more", limits.isAccepting ? "yes" : "no"],
          ])] : empty("Loading…")),
        panel("Facts", null, facts([
          ["Data address", name(star.dataAddress) || "—"],
          ["Session", `number ${count(star.epoch)}`],
          ["Assignments", count(star.activeTasks ?? 0)],
          ["Disk", disk ? [bar(disk.used, disk.kind, "disk"), `${bytes(disk.free)} of ${bytes(disk.total)} free`] : "—"],
          ["Operations", `${count(health.totalOperations)}, ${count(health.errorCount)} failed`],
          ...Object.entries(star.labels ?? {}).map(([key, value]) => [name(key), name(value)]),
        ])),
        panel("Roots", null, h("ul.plain-list", (star.roots ?? []).map((root) => h("li", h("code", name(root.path)), root.isReadOnly ? h("span.muted", " read only") : null)))),
        snapshots.length === 0 ? null : panel("Snapshots", "the newest", h("ul.history", snapshots.map((snapshot) =>
          h("li", { "data-key": `snapshot-${snapshot.snapshotId}` },
            h("span.muted.when", time(snapshot.createTime)),
            h("code", { title: snapshot.snapshotId }, snapshot.snapshotId.slice(0, 12)),
            jobLink(snapshot.jobId),
            h("span.muted", `${countOf(snapshot.fileCount ?? 0, "file")}, ${bytes(snapshot.totalBytes)}, grew by ${bytes(snapshot.addedBytes)}`),
            (snapshot.tags ?? []).map((tag) => badge("off", name(tag))),
            snapshot.isPartial ? badge("warn", "partial") : null)))),
        panel("Lifecycle", null, h("ol.history", (star.history ?? []).slice().reverse().map((step) =>
          h("li", h("span.muted.when", time(step.time)), badge("off", words(step.to, "STAR_STATE_")), h("span", name(step.reason)))))))),
  ];
}
