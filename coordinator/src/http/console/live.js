// The grid as it is now, kept by one stream of events. Pages read `grid` and are told when something has changed.
//
// The browser reconnects by itself with the id of the last event; what is drawn meanwhile is shown as old.

import { get } from "./api.js";
import { number } from "./format.js";

const BULLETINS_MAX = 1000;
const EVENTS_MAX = 200;
const SAMPLES_MAX = 900;
const JOBS_MAX = 500;
/// The server says something at least every ten seconds.
const SILENCE_MS = 25000;

export const grid = {
  /// "connecting", "live" or "lost".
  link: "connecting",
  /// When the link was lost.
  lostAt: null,
  stars: new Map(),
  guards: new Map(),
  jobs: new Map(),
  bulletins: new Map(),
  events: [],
  samples: [],
  summary: {},
  /// What a client of this port may do: "operator" or "viewer".
  role: "operator",
};

const listeners = new Set();
let isScheduled = false;

/// Calls `listener` after a change, at most once a frame. Gives what ends it.
export function watch(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function changed() {
  if (isScheduled) return;
  isScheduled = true;
  const run = () => {
    if (!isScheduled) return;
    isScheduled = false;
    for (const listener of [...listeners]) listener();
  };
  requestAnimationFrame(run);
  // A page that nobody sees has no frames, and its title should still tell.
  setTimeout(run, 500);
}

let source = null;
let heardAt = Date.now();
let incoming = null;
/// Jobs that came by this stream.
const streamed = new Map();

export function connect() {
  source?.close();
  source = new EventSource("/api/events");
  heardAt = Date.now();
  source.addEventListener("hello", (event) => {
    heard();
    grid.role = JSON.parse(event.data).role ?? "operator";
    // The Stars that follow are all there are; one that is not among them is gone.
    incoming = new Set();
    streamed.clear();
  });
  source.addEventListener("live", () => {
    heard();
    for (const id of grid.stars.keys()) if (!incoming.has(id)) grid.stars.delete(id);
    incoming = null;
    // What the lists say belongs to the present as well: a page without them would say that all is well.
    readLists().then(() => {
      grid.link = "live";
      grid.lostAt = null;
      document.dispatchEvent(new CustomEvent("live"));
      changed();
    }, () => {
      lose();
      setTimeout(connect, 3000);
    });
  });
  on("star", (star) => {
    grid.stars.set(star.starId, star);
    incoming?.add(star.starId);
  });
  on("star-gone", ({ starId }) => grid.stars.delete(starId));
  on("job", (job) => {
    streamed.set(job.jobId, job);
    putJob(job);
  });
  on("job-gone", ({ jobId }) => {
    streamed.delete(jobId);
    grid.jobs.delete(jobId);
  });
  on("bulletin", (bulletin) => putBulletin(bulletin));
  on("provenance", (event) => {
    grid.events.unshift(event);
    grid.events.length = Math.min(grid.events.length, EVENTS_MAX);
  });
  on("summary", (summary) => {
    const isNew = summary.deadLettersEver !== grid.summary.deadLettersEver
      || summary.deadLetters !== grid.summary.deadLetters;
    grid.summary = summary;
    if (isNew) document.dispatchEvent(new CustomEvent("dead-letters-changed"));
  });
  on("throughput", (sample) => {
    grid.samples.push(sample);
    if (grid.samples.length > SAMPLES_MAX) grid.samples.shift();
    readGuards();
  });
  source.onerror = () => {
    lose();
    // Refused for good, for instance because too many watch: the browser gives up, and we ask again later.
    if (source?.readyState === EventSource.CLOSED) setTimeout(connect, 3000);
  };
}

function on(name, take) {
  source.addEventListener(name, (event) => {
    heard();
    take(JSON.parse(event.data));
    changed();
  });
}

function heard() {
  heardAt = Date.now();
}

function lose() {
  if (grid.link !== "lost") {
    grid.link = "lost";
    grid.lostAt = new Date().toISOString();
    changed();
  }
}

setInterval(() => {
  // A connection that was cut without a word looks open for long. While Stars send heartbeats something comes always.
  if (source && grid.link === "live" && Date.now() - heardAt > SILENCE_MS) {
    get("/readyz").catch(() => lose());
    heardAt = Date.now();
  }
  changed();
}, 1000);

function putJob(job) {
  grid.jobs.set(job.jobId, job);
  if (grid.jobs.size > JOBS_MAX) {
    const ended = [...grid.jobs.values()].filter((other) => other.endTime).sort((a, b) => number(a.jobId) - number(b.jobId));
    if (ended.length > 0) {
      grid.jobs.delete(ended[0].jobId);
      streamed.delete(ended[0].jobId);
    }
  }
}

export function putBulletin(bulletin) {
  grid.bulletins.set(bulletin.bulletinId, bulletin);
  if (grid.bulletins.size > BULLETINS_MAX) {
    grid.bulletins.delete([...grid.bulletins.keys()].sort((a, b) => number(a) - number(b))[0]);
  }
}

/// What the stream does not begin with.
async function readLists() {
  const [jobs, bulletins, throughput] = await Promise.all([
    get("/api/jobs", { page_size: 100 }),
    get("/api/bulletins", { limit: BULLETINS_MAX }),
    get("/api/throughput"),
    readGuards(),
  ]);
  // What the stream has said since it began stands; all else is as the list says.
  const listed = (jobs.jobs ?? []).map((job) => [job.jobId, job]);
  grid.jobs = new Map([...listed, ...streamed]);
  for (const bulletin of bulletins.bulletins ?? []) grid.bulletins.set(bulletin.bulletinId, bulletin);
  grid.samples = throughput.samples ?? [];
}

/// A browser has few connections to one server, and a stream holds one; a page that nobody sees gives its own back.
const ASLEEP_MS = 20000;
let sleeping = null;

document.addEventListener("visibilitychange", () => {
  clearTimeout(sleeping);
  if (!document.hidden) {
    if (source === null) connect();
    return;
  }
  sleeping = setTimeout(() => {
    source?.close();
    source = null;
    grid.link = "connecting";
  }, ASLEEP_MS);
});

let isReadingGuards = false;

async function readGuards() {
  if (isReadingGuards) return;
  isReadingGuards = true;
  try {
    const { guards } = await get("/api/guards", { page_size: 1000 });
    grid.guards = new Map((guards ?? []).map((guard) => [guard.starId, guard]));
    changed();
  } catch {
    // The link itself tells when it is lost.
  } finally {
    isReadingGuards = false;
  }
}

export const ENDED = ["COMPLETED", "PARTIALLY_COMPLETED", "FAILED", "CANCELLED"].map((state) => `JOB_STATE_${state}`);

export function isEnded(job) {
  return ENDED.includes(job.state);
}
