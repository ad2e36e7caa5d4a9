//! Poison: an item that takes the agents down that work on it, and how it is distinguished from the others.
//!
//! When a Star's process dies, what it had begun comes under suspicion, and so does what was being read from it. Nearly all
//! of it is innocent, so suspicion only narrows down: the items of a death go in smaller and smaller groups, behind the
//! others of their lane, one group at a time for each Star, and at last alone. A group that is done is free of suspicion.
//! An item is given up only for deaths while it was alone in the agent's hands, and only if that many would hardly come by
//! chance, given how often agents die without it (`evidence.rs`): Stars that die anyway prove nothing. Only deaths of the
//! last hour count, those with the item and those without it alike. A large file of which more was recorded as safe is free
//! again, whatever dies. Suspicion ends with the coordinator's process: a restart forgets it, never an item.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use orbit_shared::bulletin::Severity;
use orbit_shared::session::limits::{ASSIGNMENT_ITEMS_MAX, LARGE_FILE_UNRECORDED_BYTES_MAX};
use orbit_shared::session::{Failure, FailureCause, Fault};
use orbit_shared::time::Monotonic;
use orbit_shared::words::{AssignmentId, ItemId, JobId, Layout, StarId};

use super::Jobs;
use super::assignment::LiveAssignment;
use super::evidence::{Evidence, IN_COMPANY_MAX};
use super::job::Job;
use super::lane::Lane;
use super::settle::leave_queue;
use super::suspects::{HeldAtEnd, Suspect, Trial};
use super::suspicion::Suspicion;
use crate::core::held::{Gate, Held};
use crate::core::limits::SUSPECTS_PER_JOB_MAX;
use crate::core::records::destination_number;
use crate::core::seen::Seen;
use crate::core::stars::Stars;

/// Deaths that are older than this do not count, neither against an item nor for it. Long enough for an item that makes its
/// whole machine start again each time.
const DEATHS_SPAN: Duration = Duration::from_secs(3600);
/// An item that is tried alone holds up the rest of its Star at most so long; after that it is not alone any more.
const TRIAL_MAX: Duration = Duration::from_secs(2);
/// So long after its agent has started a Star's hands are waited for to be empty; then an item goes beside what else there is.
const ALONE_WAIT: Duration = Duration::from_secs(10);

impl LiveAssignment {
    /// Whether more of the large file in it was recorded as safe: the next attempt goes on there.
    fn has_recorded(&self, layout: Layout) -> bool {
        layout == Layout::Files && self.is_large && self.bytes_moved > LARGE_FILE_UNRECORDED_BYTES_MAX
    }
}

impl Jobs {
    /// A Star's session is ending: notes what it held and what was being read from it. `plan_scans` are scans that it runs for
    /// plans.
    pub(in crate::core) fn note_held(&mut self, name: &StarId, plan_scans: usize) {
        let is_busy_otherwise = self.hands.of(name).scans + plan_scans > 0;
        let mut held = HeldAtEnd { is_busy_otherwise, ..HeldAtEnd::default() };
        let mut safe = Vec::new();
        for (&id, live) in &self.assignments {
            let is_own = live.star == *name;
            if !is_own && live.source != *name {
                continue;
            }
            let layout = self.jobs.get(&live.job).map_or(Layout::Files, |job| job.record.spec.layout);
            let has_recorded = live.has_recorded(layout);
            for &sequence in live.items.keys() {
                let item = ItemId { job: live.job, destination: live.destination, sequence };
                if has_recorded {
                    safe.push(item);
                    held.is_busy_otherwise = true;
                } else {
                    held.items.insert(item, is_own.then_some(id));
                }
            }
        }
        for item in safe {
            if let Some(live) = self.jobs.get_mut(&item.job).and_then(|job| job.live.as_mut()) {
                live.suspects.remove(&(item.destination, item.sequence));
            }
        }
        self.hands.of_mut(name).held_at_end = held;
    }

    /// A Star leaves on request; nothing that it held is to blame.
    pub(in crate::core) fn note_left(&mut self, name: &StarId) {
        self.hands.of_mut(name).held_at_end = HeldAtEnd { has_left: true, ..HeldAtEnd::default() };
    }

    /// A Star is back. If its process died, what it had begun is under suspicion; if it was only out of reach, nothing is.
    /// `begun` is what its journal says it had begun, if it keeps one.
    pub(in crate::core) fn judge_held(
        &mut self,
        turn: &mut Seen<'_>,
        name: &StarId,
        begun: Option<&[AssignmentId]>,
    ) {
        let hand = self.hands.of_mut(name);
        let HeldAtEnd { items, is_busy_otherwise, has_left } = std::mem::take(&mut hand.held_at_end);
        if has_left {
            return;
        }
        let has_begun = |own: Option<AssignmentId>| match (own, begun) {
            (Some(id), Some(begun)) => begun.contains(&id),
            (None, _) | (_, None) => true,
        };
        let items: Vec<ItemId> =
            items.into_iter().filter(|(_, own)| has_begun(*own)).map(|(item, _)| item).collect();
        if let [item] = items[..]
            && !is_busy_otherwise
        {
            hand.note_death(turn.now.monotonic, Some(item));
            return self.died_alone(turn, name, item);
        }
        let now = turn.now.monotonic;
        hand.note_death(now, None);
        let is_grouped = |item: &&ItemId| self.suspicion_of(**item) >= Suspicion::Group;
        let known: Vec<ItemId> = items.iter().filter(is_grouped).copied().collect();
        // Where some are suspected already, it was probably one of them.
        let count = if known.is_empty() { items.len() } else { known.len() };
        for &item in &items {
            let before = self.suspicion_of(item);
            let after = match before {
                _ if known.is_empty() || before >= Suspicion::Group => before.after(count),
                // Spared once. It may be one of these all the same, beside a suspect that is always there.
                Suspicion::None => Suspicion::Noted,
                _ => before.after(items.len()),
            };
            self.suspect(now, item, after, name);
            self.note_in_company(now, item, name);
        }
    }

    /// An agent died while one item was all that it had in its hands.
    fn died_alone(&mut self, turn: &mut Seen<'_>, name: &StarId, item: ItemId) {
        let now = turn.now.monotonic;
        self.suspect(now, item, Suspicion::Alone, name);
        // Where too many are suspected already, or its job has ended, nothing is held against it.
        let Some(suspect) = self.suspect_record(item) else { return };
        let deaths = self.deaths_alone(now, item, suspect);
        let message = format!(
            "the agent of {name} died and has started again; item {item} was all that it had in its hands, {deaths} times in the last hour. It is tried alone, and given up if that goes on"
        );
        turn.post((Severity::Warning, name.as_str(), "poison"), Some(item.job), &message);
    }

    fn suspect(&mut self, now: Monotonic, item: ItemId, suspicion: Suspicion, star: &StarId) {
        let Some(live) = self.jobs.get_mut(&item.job).and_then(|job| job.live.as_mut()) else { return };
        let key = (item.destination, item.sequence);
        if live.suspects.len() >= SUSPECTS_PER_JOB_MAX && !live.suspects.contains_key(&key) {
            return;
        }
        let new = || Suspect { suspicion, star: star.clone(), since: now, in_company: BTreeMap::new() };
        let suspect = live.suspects.entry(key).or_insert_with(new);
        (suspect.suspicion, suspect.star) = (suspicion, star.clone());
        if let Some(lane) = live.lanes.get_mut(item.destination as usize) {
            lane.suspect(item.sequence, suspicion);
        }
    }

    /// Keeps a death of a Star's agent while an item was among others in its hands.
    fn note_in_company(&mut self, now: Monotonic, item: ItemId, star: &StarId) {
        let live = self.jobs.get_mut(&item.job).and_then(|job| job.live.as_mut());
        let suspect = live.and_then(|live| live.suspects.get_mut(&(item.destination, item.sequence)));
        let Some(suspect) = suspect else { return };
        let times = suspect.in_company.entry(star.clone()).or_default();
        times.push_back(now);
        if times.len() > IN_COMPANY_MAX as usize {
            times.pop_front();
        }
    }

    /// Deaths in the last hour of the Star that died last, while an item was all that it had.
    fn deaths_alone(&self, now: Monotonic, item: ItemId, suspect: &Suspect) -> u32 {
        let deaths = self.hands.of(&suspect.star).deaths.iter();
        let counts = |&&(at, alone): &&(Monotonic, Option<ItemId>)| {
            alone == Some(item) && at >= suspect.since && now.since(at) < DEATHS_SPAN
        };
        u32::try_from(deaths.filter(counts).count()).unwrap_or(u32::MAX)
    }

    fn suspect_record(&self, item: ItemId) -> Option<&Suspect> {
        self.jobs.get(&item.job)?.live.as_ref()?.suspects.get(&(item.destination, item.sequence))
    }

    fn suspicion_of(&self, item: ItemId) -> Suspicion {
        self.suspect_record(item).map_or(Suspicion::None, |suspect| suspect.suspicion)
    }

    /// The suspect that is next in a lane, if it is one.
    fn next_suspect(&self, job: JobId, destination: u32) -> Option<(u64, &Suspect)> {
        let live = self.jobs.get(&job)?.live.as_ref()?;
        if live.suspects.is_empty() {
            return None;
        }
        let lane = live.lanes.get(destination as usize)?;
        let sequence = lane.item(lane.best_key()?)?.sequence;
        Some((sequence, live.suspects.get(&(destination, sequence))?))
    }

    /// What deaths say of an item: those of the Star that died last with it, compared with all others of the grid.
    fn evidence(&self, stars: &Stars, now: Monotonic, item: ItemId, suspect: &Suspect) -> Evidence {
        let is_late = |at: Monotonic| now.since(at) < DEATHS_SPAN;
        let in_company = suspect.in_company.get(&suspect.star).into_iter().flatten();
        let mut evidence = Evidence {
            alone: self.deaths_alone(now, item, suspect),
            in_company: u32::try_from(in_company.filter(|at| is_late(**at)).count()).unwrap_or(u32::MAX),
            ..Evidence::default()
        };
        for star in stars.iter() {
            let name = &star.record.star_id;
            let late = self.hands.of(name).deaths.iter().filter(|(at, _)| is_late(*at));
            let is_own = *name == suspect.star;
            // A death while another item was alone is a death without this one.
            let other = late.filter(|(_, alone)| !is_own || *alone != Some(item)).count();
            let other = u32::try_from(other).unwrap_or(u32::MAX);
            if is_own {
                evidence.own_other = other;
            } else {
                evidence.of_others = evidence.of_others.saturating_add(other);
            }
            evidence.stars += u32::from(is_own || star.session.is_some() || other > 0);
        }
        evidence
    }

    /// Gives up the item at the front of a lane if it is poison. Returns whether it was.
    pub(super) fn give_up_poison(&mut self, turn: &mut Seen<'_>, job: JobId, destination: u32) -> bool {
        let Some((sequence, suspect)) = self.next_suspect(job, destination) else { return false };
        let item = ItemId { job, destination, sequence };
        let evidence = self.evidence(turn.stars, turn.now.monotonic, item, suspect);
        if !evidence.is_conclusive() {
            return false;
        }
        let (name, deaths) = (suspect.star.clone(), evidence.alone);
        let live = self.live_mut(job);
        let lane = &mut live.lanes[destination as usize];
        let key = lane.best_key().cloned().expect("a suspect is next in it");
        let queued = lane.remove(&key).expect("the lane has just named it");
        assert_eq!(queued.sequence, sequence, "{item} is poison, and another one goes");
        live.suspects.remove(&(destination, sequence));
        leave_queue(turn, live, item, &queued);
        // What is explained says nothing for the others that are under suspicion.
        for (_, hand) in self.hands.iter_mut() {
            hand.deaths.retain(|(_, alone)| *alone != Some(item));
        }
        let failure = Failure {
            cause: FailureCause::Permanent,
            fault: Fault::Item,
            message: format!(
                "{deaths} times in the last hour the agent of {name} died while this was all that it had in its hands; see what is special about it, then retry it"
            ),
        };
        self.give_up(turn, item, Arc::unwrap_or_clone(queued.entry), &failure, deaths);
        true
    }

    /// Maximum number of items that may travel with the one that is next in a lane.
    pub(super) fn items_max_by_suspicion(&self, job: JobId, destination: u32) -> usize {
        let next = self.next_suspect(job, destination);
        next.map_or(ASSIGNMENT_ITEMS_MAX, |(_, suspect)| suspect.suspicion.items_max())
    }

    /// What holds a lane because of suspicion: that of its next item, or that of another which is being tried.
    pub(super) fn suspicion_gate(
        &self,
        stars: &Stars,
        now: Monotonic,
        job: JobId,
        destination: u32,
    ) -> Option<Held> {
        let spec = &self.jobs.get(&job)?.record.spec;
        let place = &spec.destinations.get(destination as usize)?.star_id;
        let in_trial = [&spec.source.star_id, place].into_iter().find_map(|name| {
            let trial = self.hands.of(name).trial.filter(|trial| now < trial.until)?;
            Some((name, trial))
        });
        if let Some((name, trial)) = in_trial {
            let explanation =
                format!("{name} works on one item alone for a moment, because its agent died over it");
            return Some(Held { opens_at: Some(trial.until), ..Held::new(Gate::Order, explanation) });
        }
        let (_, suspect) = self.next_suspect(job, destination)?;
        if suspect.suspicion < Suspicion::Group {
            return None;
        }
        let of_place = self.hands.of(place).assignments.iter();
        let mut of_place = of_place.filter_map(|id| self.assignments.get(id));
        if of_place.any(|live| live.suspicion >= Suspicion::Group) {
            let explanation = format!(
                "what is left was in the hands of an agent of {} that died, and goes to {place} in one small group at a time",
                suspect.star
            );
            return Some(Held::new(Gate::Order, explanation));
        }
        let until = alone_until(stars, suspect)?;
        (now < until && !self.has_empty_hands(&suspect.star)).then(|| {
            let explanation = format!(
                "the agent of {} died while it had the next item in its hands; that goes alone and waits for {} to have nothing else",
                suspect.star, suspect.star
            );
            Held { opens_at: Some(until), ..Held::new(Gate::Order, explanation) }
        })
    }

    fn has_empty_hands(&self, name: &StarId) -> bool {
        self.hands.of(name).is_empty()
    }

    /// Whether a lane's next item is to go alone and can: a Star that has just started has empty hands, and not for long.
    pub(super) fn is_trial_due(&self, job: JobId, destination: u32) -> bool {
        self.next_suspect(job, destination).is_some_and(|(_, suspect)| {
            suspect.suspicion == Suspicion::Alone && self.has_empty_hands(&suspect.star)
        })
    }

    /// An assignment is about to be live: if it is one item that goes alone, its Star is given nothing else for a moment.
    pub(super) fn begin_trial(&mut self, now: Monotonic, id: AssignmentId, live: &LiveAssignment) {
        if live.suspicion != Suspicion::Alone {
            return;
        }
        let &sequence = live.items.keys().next().expect("an assignment has items");
        let item = ItemId { job: live.job, destination: live.destination, sequence };
        let Some(name) = self.suspect_record(item).map(|suspect| suspect.star.clone()) else { return };
        let is_alone = self.has_empty_hands(&name);
        if is_alone {
            self.hands.of_mut(&name).trial = Some(Trial { assignment: id, until: now + TRIAL_MAX });
        }
    }

    /// An assignment is over, and with it its trial, if it was one.
    pub(super) fn end_trial(&mut self, id: AssignmentId, live: &LiveAssignment) {
        for name in [&live.star, &live.source] {
            let hand = self.hands.of_mut(name);
            hand.trial = hand.trial.filter(|trial| trial.assignment != id);
        }
    }

    /// When a trial holds nothing up any more, or an item that waits to go alone goes with others.
    pub(super) fn next_suspicion_deadline(&self, stars: &Stars, now: Monotonic) -> Option<Monotonic> {
        let trials = self.hands.iter().filter_map(|(_, hand)| hand.trial.map(|trial| trial.until));
        let suspected = self.open_jobs().filter_map(|job| {
            let live = job.live.as_ref().filter(|live| !live.suspects.is_empty())?;
            let lanes = 0..destination_number(live.lanes.len());
            let next = lanes.filter_map(|lane| self.next_suspect(job.record.id, lane));
            next.filter_map(|(_, suspect)| alone_until(stars, suspect)).filter(|at| *at > now).min()
        });
        trials.filter(|at| *at > now).chain(suspected).min()
    }

    /// What suspicion does to a job, in words; empty if nothing.
    pub(super) fn suspicion_reason(&self, job: &Job) -> Option<String> {
        let live = job.live.as_ref().filter(|live| !live.suspects.is_empty())?;
        let count: usize = live.lanes.iter().map(Lane::suspect_count).sum();
        (count > 0).then(|| {
            format!(
                "{count} items wait behind the others and go in groups or alone, because an agent died while it had them in its hands"
            )
        })
    }

    /// What an item under suspicion waits for, in words.
    pub(super) fn suspect_gate(&self, now: Monotonic, item: ItemId) -> Option<Held> {
        let suspect = self.suspect_record(item)?;
        let explanation = format!(
            "it goes behind the others, because the agent of {} died while it had this in its hands, {} times in the last hour with nothing else",
            suspect.star,
            self.deaths_alone(now, item, suspect)
        );
        Some(Held::new(Gate::Order, explanation))
    }
}

/// Until when an item that is to go alone waits for its Star's hands to be empty.
fn alone_until(stars: &Stars, suspect: &Suspect) -> Option<Monotonic> {
    let star = stars.get(&suspect.star)?;
    (suspect.suspicion == Suspicion::Alone).then_some(star.session_since + ALONE_WAIT)
}
