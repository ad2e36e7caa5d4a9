//! What changes, looked at once for all who watch: one task compares the grid with what it was, and every change is made
//! into a frame once and shared.
//!
//! Readers hold a place in one ring of frames. Who falls so far behind that the ring has turned is cut off; nothing is
//! kept for anybody. While nobody watches, the hub looks only as often as the throughput is sampled.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use orbit_proto::convert::timestamp_to_wire;
use orbit_proto::{json, v1};
use orbit_shared::bulletin::{BulletinBoard, BulletinFilter};
use orbit_shared::time::{Now, WallTime};
use orbit_shared::words::JobId;
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use super::frame::{Cursor, Frame, Topic};
use crate::core::limits::{ACTIVE_JOBS_MAX, BULLETINS_MAX, STARS_MAX};
use crate::core::{Core, JobState, Refusal};
use crate::grpc::{Faces, convert};
use crate::meters::Meters;
use crate::provenance_log::RecentEvents;

/// Frames in the ring: what a reader may be behind.
const FRAMES_MAX: usize = 16_384;
/// The least time between two looks.
const PACE: Duration = Duration::from_millis(250);
/// Between two looks passes at least this many times as long as the last one took.
const PACE_FACTOR: u32 = 20;
/// How often the throughput is sampled.
pub(super) const SAMPLE_INTERVAL: Duration = Duration::from_secs(2);
/// Samples kept: half an hour.
const SAMPLES_MAX: usize = 900;
/// Events of one look that are shown; of more, only the last, and a frame that says which were left out.
const EVENTS_PER_LOOK_MAX: usize = 200;
/// Subscriptions that wait for the hub.
const WAITING_MAX: usize = 64;

// Whatever one look may find to have changed has room in the ring, or nobody could ever keep up.
const _: () = assert!(FRAMES_MAX > STARS_MAX + 2 * ACTIVE_JOBS_MAX + BULLETINS_MAX + EVENTS_PER_LOOK_MAX);

/// What a new reader gets.
#[derive(Debug)]
pub(super) struct Joined {
    /// The grid as it is.
    pub(super) present: Vec<Frame>,
    /// Where what follows begins.
    pub(super) cursor: Cursor,
    /// What follows.
    pub(super) live: broadcast::Receiver<Frame>,
}

/// The throughput at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    time: WallTime,
    bytes_per_second: u64,
    items_done: u64,
}

/// How others reach the hub.
#[derive(Debug, Clone)]
pub(super) struct Hub {
    joining: mpsc::Sender<oneshot::Sender<Joined>>,
    samples: Arc<Mutex<VecDeque<Sample>>>,
}

impl Hub {
    /// Starts the hub; it ends with the coordinator.
    pub(super) fn start(faces: Faces, meters: Arc<Meters>) -> Self {
        let (joining, waiting) = mpsc::channel(WAITING_MAX);
        let samples = Arc::new(Mutex::new(VecDeque::new()));
        let keeper = Keeper {
            faces,
            meters,
            samples: samples.clone(),
            live: broadcast::Sender::new(FRAMES_MAX),
            last: Last::default(),
        };
        tokio::spawn(keeper.run(waiting));
        Self { joining, samples }
    }

    /// The present and what follows; `None` when the coordinator is stopping.
    pub(super) async fn join(&self) -> Option<Joined> {
        let (answer, answered) = oneshot::channel();
        self.joining.send(answer).await.ok()?;
        answered.await.ok()
    }

    /// The throughput of the last half hour.
    pub(super) fn throughput(&self) -> Value {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let shown: Vec<Value> = samples.iter().map(sample_json).collect();
        json!({ "intervalSeconds": SAMPLE_INTERVAL.as_secs(), "samples": shown })
    }
}

fn sample_json(sample: &Sample) -> Value {
    json!({
        "time": time_json(sample.time),
        "bytesPerSecond": sample.bytes_per_second.to_string(),
        "itemsDone": sample.items_done.to_string(),
    })
}

fn time_json(time: WallTime) -> Value {
    json::of_message("google.protobuf.Timestamp", &timestamp_to_wire(time))
}

/// What everybody who watches has been told.
#[derive(Debug, Default)]
struct Last {
    is_fresh: bool,
    stars: BTreeMap<String, v1::Star>,
    /// Jobs that have not ended.
    jobs: BTreeMap<u64, v1::Job>,
    /// When the others ended.
    ends: BTreeMap<JobId, WallTime>,
    /// Times posted and whether acknowledged, by bulletin.
    bulletins: BTreeMap<u64, (u64, bool)>,
    summary: Value,
    cursor: Cursor,
}

/// What is compared with the core.
struct Known {
    is_first: bool,
    bulletins: BTreeMap<u64, (u64, bool)>,
    ends: BTreeMap<JobId, WallTime>,
    active: BTreeSet<JobId>,
}

/// What one look at the core found.
struct Look {
    stars: Vec<v1::Star>,
    jobs: Vec<v1::Job>,
    ended: Vec<v1::Job>,
    ends: BTreeMap<JobId, WallTime>,
    bulletins: BTreeMap<u64, (u64, bool)>,
    changed_bulletins: Vec<v1::Bulletin>,
    last_bulletin: u64,
    summary: Value,
}

struct Keeper {
    faces: Faces,
    meters: Arc<Meters>,
    samples: Arc<Mutex<VecDeque<Sample>>>,
    live: broadcast::Sender<Frame>,
    last: Last,
}

impl Keeper {
    async fn run(mut self, mut waiting: mpsc::Receiver<oneshot::Sender<Joined>>) {
        let stop = self.faces.stop.clone();
        let mut turns = self.faces.inbox.turns();
        let mut sampling = tokio::time::interval(SAMPLE_INTERVAL);
        sampling.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_look = Instant::now();
        loop {
            let is_watched = self.live.receiver_count() > 0;
            if !is_watched {
                // Nobody has to be told what changed since.
                self.last = Last::default();
            }
            let may_look = async {
                tokio::time::sleep_until(next_look).await;
                turns.changed().await
            };
            let done = tokio::select! {
                () = stop.cancelled() => return,
                due = sampling.tick() => self.sample(due, is_watched).await,
                asked = waiting.recv() => match asked {
                    Some(answer) => self.join(answer).await,
                    None => return,
                },
                changed = may_look, if is_watched => match changed {
                    Ok(()) => {
                        let began = Instant::now();
                        let done = self.look().await;
                        next_look = Instant::now() + PACE.max(began.elapsed() * PACE_FACTOR);
                        done
                    }
                    Err(_) => return,
                },
            };
            if done.is_err() {
                return;
            }
        }
    }

    async fn join(&mut self, answer: oneshot::Sender<Joined>) -> Result<(), Refusal> {
        self.look().await?;
        let at = self.last.cursor;
        let mut present = Vec::new();
        for star in self.last.stars.values() {
            present.push(Frame::of(Topic::Stars, "star", at, "orbit.v1.Star", star));
        }
        for job in self.last.jobs.values() {
            present.push(Frame::of(Topic::Jobs, "job", at, "orbit.v1.Job", job));
        }
        present.push(Frame::new(Topic::Summary, "summary", at, &self.last.summary));
        // Who has gone away meanwhile wants nothing.
        let _ = answer.send(Joined { present, cursor: at, live: self.live.subscribe() });
        Ok(())
    }

    /// Looks at the core and the provenance log, and tells everybody what has changed.
    async fn look(&mut self) -> Result<(), Refusal> {
        let is_first = !self.last.is_fresh;
        let known = Known {
            is_first,
            bulletins: std::mem::take(&mut self.last.bulletins),
            ends: std::mem::take(&mut self.last.ends),
            active: self.last.jobs.keys().map(|id| JobId(*id)).collect(),
        };
        let board = self.faces.inbox.board().clone();
        let found = self
            .faces
            .inbox
            .view(move |core, now| board.look(|board| look_at((core, board), now, &known)))
            .await?;
        let recent = self.faces.provenance.recent_after(self.last.cursor.event, EVENTS_PER_LOOK_MAX);
        self.last.bulletins = found.bulletins;
        self.last.ends = found.ends;
        if is_first {
            self.last.cursor = Cursor { bulletin: found.last_bulletin, event: recent.last_id };
            self.last.stars = found.stars.into_iter().map(|star| (star.star_id.clone(), star)).collect();
            self.last.jobs = found.jobs.into_iter().map(|job| (job.job_id, job)).collect();
            self.last.summary = found.summary;
            self.last.is_fresh = true;
            return Ok(());
        }
        self.tell_stars(found.stars);
        self.tell_jobs(found.jobs, found.ended);
        for bulletin in found.changed_bulletins {
            self.last.cursor.bulletin = self.last.cursor.bulletin.max(bulletin.bulletin_id);
            self.tell(Frame::bulletin(&bulletin, self.last.cursor));
        }
        self.tell_events(recent);
        if self.last.summary != found.summary {
            self.tell(Frame::new(Topic::Summary, "summary", self.last.cursor, &found.summary));
            self.last.summary = found.summary;
        }
        Ok(())
    }

    fn tell_stars(&mut self, stars: Vec<v1::Star>) {
        let at = self.last.cursor;
        let mut before = std::mem::take(&mut self.last.stars);
        for star in stars {
            if before.remove(&star.star_id).as_ref() != Some(&star) {
                self.tell(Frame::of(Topic::Stars, "star", at, "orbit.v1.Star", &star));
            }
            self.last.stars.insert(star.star_id.clone(), star);
        }
        for gone in before.into_keys() {
            self.tell(Frame::new(Topic::Stars, "star-gone", at, &json!({ "starId": gone })));
        }
    }

    fn tell_jobs(&mut self, jobs: Vec<v1::Job>, ended: Vec<v1::Job>) {
        let at = self.last.cursor;
        let mut before = std::mem::take(&mut self.last.jobs);
        for job in jobs {
            if before.remove(&job.job_id).as_ref() != Some(&job) {
                self.tell(Frame::of(Topic::Jobs, "job", at, "orbit.v1.Job", &job));
            }
            self.last.jobs.insert(job.job_id, job);
        }
        for job in ended {
            before.remove(&job.job_id);
            self.tell(Frame::of(Topic::Jobs, "job", at, "orbit.v1.Job", &job));
        }
        for gone in before.into_keys() {
            self.tell(Frame::new(Topic::Jobs, "job-gone", at, &json!({ "jobId": gone.to_string() })));
        }
    }

    fn tell_events(&mut self, recent: RecentEvents) {
        let after = self.last.cursor.event;
        let first = recent.events.first().map_or(recent.last_id + 1, |event| event.event_id);
        if first > after + 1 {
            self.last.cursor.event = first - 1;
            self.tell(Frame::gap(after, first - 1, self.last.cursor));
        }
        for event in recent.events {
            self.last.cursor.event = event.event_id;
            self.tell(Frame::event(&convert::event(event), self.last.cursor));
        }
    }

    fn tell(&self, frame: Frame) {
        // Without a reader there is nobody to tell.
        let _ = self.live.send(frame);
    }

    /// Samples the throughput, and how long a question waits for its turn.
    async fn sample(&mut self, due: Instant, is_watched: bool) -> Result<(), Refusal> {
        let asked = Instant::now();
        self.meters.runtime_lag.observe(asked.saturating_duration_since(due).as_secs_f64());
        let look = |core: &Core, now: Now| {
            let (rate, totals) = (core.bytes_per_second(now), core.totals());
            Sample { time: now.wall, bytes_per_second: rate, items_done: totals.stored + totals.skipped }
        };
        let sample = self.faces.inbox.view(look).await?;
        self.meters.driver_wait.observe(asked.elapsed().as_secs_f64());
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(sample);
        drop(samples);
        if is_watched {
            self.tell(Frame::new(Topic::Summary, "throughput", self.last.cursor, &sample_json(&sample)));
        }
        Ok(())
    }
}

fn look_at((core, board): (&Core, &BulletinBoard), now: Now, known: &Known) -> Look {
    let stars = core.stars().map(|star| convert::star(core, now, star)).collect();
    let states = [JobState::Scanning, JobState::Running, JobState::Paused];
    let jobs = core.each_job(None, &states, now).map(convert::job).collect();
    let present: BTreeMap<JobId, WallTime> = core.ended_jobs().collect();
    let is_news = |id: &JobId, time: &WallTime| known.ends.get(id) != Some(time) || known.active.contains(id);
    let news = present.iter().filter(|(id, time)| !known.is_first && is_news(id, time));
    let ended = news.filter_map(|(id, _)| core.job(*id, now)).map(convert::job).collect();
    let shown = board.query(&BulletinFilter::default(), BULLETINS_MAX);
    let mut bulletins = BTreeMap::new();
    let mut changed_bulletins = Vec::new();
    for bulletin in shown.into_iter().rev() {
        let mark = (bulletin.repeat_count, bulletin.is_acknowledged);
        if !known.is_first && known.bulletins.get(&bulletin.id) != Some(&mark) {
            changed_bulletins.push(convert::bulletin(bulletin));
        }
        bulletins.insert(bulletin.id, mark);
    }
    let last_bulletin = board.next_id().saturating_sub(1);
    let summary = summary(core, &bulletins);
    Look { stars, jobs, ended, ends: present, bulletins, changed_bulletins, last_bulletin, summary }
}

/// Counts that tell a reader of lists when to read them again.
fn summary(core: &Core, bulletins: &BTreeMap<u64, (u64, bool)>) -> Value {
    let open = bulletins.values().filter(|(_, is_acknowledged)| !is_acknowledged).count();
    let totals = core.totals();
    json!({
        "bulletins": bulletins.len(),
        "bulletinsUnacknowledged": open,
        "deadLetters": core.dead_letters().len(),
        "deadLettersEver": core.dead_letters().next_id().saturating_sub(1).to_string(),
        "itemsPenalized": core.penalized_count(),
        "itemsDone": (totals.stored + totals.skipped).to_string(),
    })
}
