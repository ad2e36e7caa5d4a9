//! Operators: they create the jobs, and do random operations in between. In the healing phase they undo everything that
//! holds up work, repeatedly until it is undone.

use std::collections::BTreeMap;
use std::time::Duration;

use orbit_coordinator::core::{Answer, Command, JobSpec, JobState, Location, Refusal, ReplyId};
use orbit_shared::backpressure::BackpressureConfig;
use orbit_shared::dead_letter::DeadLetterFilter;
use orbit_shared::prioritizer::PrioritizerKind;
use orbit_shared::time::Now;
use orbit_shared::words::{ItemId, JobId, Layout};

use super::World;
use super::agenda::Happening;
use super::coordinator::Request;

/// A job that an operator wants.
#[derive(Debug)]
pub struct Wish {
    /// The request id.
    pub request: String,
    /// The specification.
    pub spec: JobSpec,
    /// The job, once that is known.
    pub job: Option<JobId>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Operator {
    /// The jobs.
    pub wishes: Vec<Wish>,
    /// How often dead letters are still to be retried at the end.
    pub redrives_left: u32,
    next_reply: u64,
    /// Commands without an answer yet, with the wish that they are about.
    pending: BTreeMap<ReplyId, Option<usize>>,
}

impl Operator {
    /// An answer has come.
    pub fn answered(&mut self, reply: ReplyId, answer: Result<Answer, Refusal>) {
        let asked = self.pending.remove(&reply).expect("each command is answered once");
        let (Some(index), Ok(Answer::Job(job))) = (asked, answer) else { return };
        let known = self.wishes[index].job.replace(job);
        assert!(known.is_none_or(|known| known == job), "one job a request: {known:?} and {job}");
    }

    /// The coordinator has crashed; there will be no answers.
    pub fn forget_pending(&mut self) {
        self.pending.clear();
    }

    /// The jobs that operators know to be created.
    pub fn jobs(&self) -> Vec<JobId> {
        self.wishes.iter().filter_map(|wish| wish.job).collect()
    }
}

impl World {
    /// Chooses the jobs of this run.
    pub(super) fn think_of_jobs(&mut self) {
        for index in 0..self.scenario.job_count {
            let source = self.chance.index(self.stars.len());
            let mut others: Vec<usize> = (0..self.stars.len()).collect();
            if self.chance.percent(85) {
                others.retain(|&other| other != source);
            }
            let count = self.chance.between(1, others.len() as u64) as usize;
            while others.len() > count {
                let at = self.chance.index(others.len());
                others.remove(at);
            }
            let place = |star: usize, path: String| Location {
                star_id: self.stars[star].name.clone(),
                path: path.into_bytes(),
            };
            let layout = if self.chance.percent(35) { Layout::Packed } else { Layout::Files };
            let path = match layout {
                Layout::Files => format!("/data/out-{index}"),
                Layout::Packed => String::new(),
            };
            let destinations = others.into_iter().map(|star| place(star, path.clone())).collect();
            let spec = JobSpec {
                source: place(source, "/data/in".to_owned()),
                destinations,
                include: Vec::new(),
                exclude: Vec::new(),
                prioritizers: PrioritizerKind::DEFAULT_CHAIN.to_vec(),
                penalty: self.scenario.penalty.clone(),
                max_bytes_per_second: self.scenario.max_bytes_per_second,
                dead_letter_max: self.scenario.dead_letter_max,
                layout,
                snapshot: None,
                tags: Vec::new(),
                limits: Default::default(),
                is_one_file_system: false,
                bandwidth_windows: Vec::new(),
                caller: None,
                mirror: None,
                paths: Vec::new(),
                compares_content: false,
            };
            self.operator.wishes.push(Wish { request: format!("wish-{index}"), spec, job: None });
        }
        self.operator.redrives_left = u32::from(self.chance.percent(50));
    }

    /// Sends a command to the coordinator.
    pub(super) fn ask(&mut self, command: Command, wish: Option<usize>) {
        if self.coordinator.turns.is_none() {
            return;
        }
        // Writing into a directory after its own end changes its time.
        self.is_anything_redriven |= matches!(command, Command::RetryDeadLetters(_));
        self.operator.next_reply += 1;
        let reply = ReplyId(self.operator.next_reply);
        self.operator.pending.insert(reply, wish);
        self.request(Request::Command { reply, command });
    }

    /// An operator does a random operation.
    pub(super) fn operate(&mut self) {
        let next_ms = if self.is_healing { 1_000 } else { self.chance.between(50, 2_000) };
        self.agenda.add(self.now_ms + next_ms, Happening::Operator);
        self.create_jobs();
        if self.is_healing {
            self.take_everything_back();
        } else if self.scenario.troubles.operators {
            self.meddle();
        }
    }

    fn create_jobs(&mut self) {
        for index in 0..self.operator.wishes.len() {
            let wish = &self.operator.wishes[index];
            let is_asked = match wish.job {
                None => self.is_healing || self.chance.percent(60),
                // A client that has missed the answer repeats the request.
                Some(_) => self.chance.percent(2),
            };
            if is_asked {
                let command = Command::CreateJob {
                    spec: Box::new(wish.spec.clone()),
                    request_id: wish.request.clone(),
                    violations: Vec::new(),
                };
                self.ask(command, Some(index));
            }
        }
    }

    fn meddle(&mut self) {
        let star = self.stars[self.chance.index(self.stars.len())].name.clone();
        let jobs = self.operator.jobs();
        let reason = || "an operator's whim".to_owned();
        let command = match self.chance.below(19) {
            0 => Command::CordonStar { star, is_cordoned: true },
            1 => Command::CordonStar { star, is_cordoned: false },
            2 => {
                let deadline = self.chance.percent(50).then_some(Duration::from_secs(2));
                Command::DrainStar { star, reason: reason(), deadline }
            }
            3 | 4 => Command::ScheduleStar { star, reason: reason() },
            5 => Command::SetGuardLimits {
                star,
                max_object_count: Some(self.chance.between(1, 5)),
                max_byte_size: Some(self.chance.pick(&[1, 10_000, 1_000_000])),
            },
            6 => Command::PauseGuard { star, reason: reason() },
            7 => Command::ResumeGuard { star },
            8 => Command::RetryDeadLetters(DeadLetterFilter {
                star_id: Some(star),
                ..DeadLetterFilter::default()
            }),
            16 => Command::RemoveStar { star },
            17 => Command::ClearPenalties { job: None, item: self.some_item() },
            // An operator who sees that only the snapshot is missing, and that it lacks an entry, may retry that now.
            18 => match self.job_without_snapshot() {
                Some(job) => Command::RetryDeadLetters(DeadLetterFilter::for_job(job)),
                None => return,
            },
            9 => Command::ShutdownStar { star, reason: reason(), force: self.chance.percent(30) },
            other => {
                if jobs.is_empty() {
                    return;
                }
                let job = self.chance.pick(&jobs);
                match other {
                    10 => Command::PauseJob { job, reason: reason() },
                    11 | 12 => Command::ResumeJob { job },
                    13 => Command::ClearPenalties { job: Some(job), item: None },
                    14 if self.chance.percent(15) => Command::CancelJob { job, reason: reason() },
                    _ => Command::RetryDeadLetters(DeadLetterFilter::for_job(job)),
                }
            }
        };
        self.ask(command, None);
    }

    /// A packed job of which everything has ended except its snapshots.
    fn job_without_snapshot(&self) -> Option<JobId> {
        let core = self.coordinator.core()?;
        let is_it = |job: &&JobId| {
            let job = core.job(**job, Now::default());
            job.is_some_and(|view| {
                let record = &view.record;
                let is_packed = record.spec.layout == Layout::Packed;
                is_packed && record.end.is_none() && record.scan.is_done && record.tally().open() == 0
            })
        };
        self.operator.jobs().iter().find(is_it).copied()
    }

    /// A random item that may exist.
    fn some_item(&mut self) -> Option<ItemId> {
        let jobs = self.operator.jobs();
        let job = if jobs.is_empty() { JobId(1) } else { self.chance.pick(&jobs) };
        Some(ItemId { job, destination: 0, sequence: self.chance.below(self.scenario.entries_max + 1) })
    }

    fn take_everything_back(&mut self) {
        let Some(core) = self.coordinator.core() else { return };
        let mut commands = Vec::new();
        for star in core.stars() {
            let name = star.record.star_id.clone();
            if star.record.is_cordoned {
                commands.push(Command::CordonStar { star: name.clone(), is_cordoned: false });
            }
            if star.state() != orbit_shared::lifecycle::LifecycleState::Scheduled {
                commands.push(Command::ScheduleStar { star: name.clone(), reason: String::new() });
            }
            if star.record.guard_pause.is_some() {
                commands.push(Command::ResumeGuard { star: name.clone() });
            }
            let usual = BackpressureConfig::default();
            if star.record.guard != usual {
                commands.push(Command::SetGuardLimits {
                    star: name,
                    max_object_count: Some(usual.max_object_count),
                    max_byte_size: Some(usual.max_byte_size),
                });
            }
        }
        for job in core.each_job(None, &[JobState::Paused], self.coordinator_now()) {
            commands.push(Command::ResumeJob { job: job.record.id });
        }
        for command in commands {
            self.ask(command, None);
        }
    }
}
