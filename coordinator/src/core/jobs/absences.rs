//! Says which jobs wait for a place that is away: as soon as that is known, and again after longer and longer pauses. The
//! rest of such a job goes on, and ends with its own snapshots, so that nothing else would tell.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use orbit_shared::bulletin::Severity;
use orbit_shared::time::Monotonic;
use orbit_shared::words::{JobId, Layout, StarId};

use super::Jobs;
use super::job::Job;
use super::live::Absence;
use crate::core::notices::COORDINATOR;
use crate::core::records::{Location, Tally};
use crate::core::saying::Wording;
use crate::core::seen::Seen;
use crate::core::stars::{Star, Stars};

/// A Star that is not connected for so long is away; sessions break and come back sooner.
const AWAY_AFTER: Duration = Duration::from_secs(10);
/// How long after the first notice the next one comes; each pause is four times the one before,
const PAUSE_MIN: Duration = Duration::from_secs(15 * 60);
/// up to this.
const PAUSE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

impl Jobs {
    /// Reports the places that jobs wait for, and of those that have come back.
    pub(in crate::core) fn tell_absences(&mut self, turn: &mut Seen<'_>) {
        let away: BTreeSet<StarId> = turn
            .stars
            .absent()
            .filter(|star| away_from(star).is_some_and(|from| from <= turn.now.monotonic))
            .map(|star| star.record.star_id.clone())
            .collect();
        let is_concerned =
            |job: &&Job| job.live.as_ref().is_some_and(|live| !away.is_empty() || !live.absences.is_empty());
        let jobs: Vec<JobId> = self.open_jobs().filter(is_concerned).map(|job| job.record.id).collect();
        for id in jobs {
            self.tell_absences_of(turn, id, &away);
        }
    }

    fn tell_absences_of(&mut self, turn: &mut Seen<'_>, id: JobId, away: &BTreeSet<StarId>) {
        let mut waits = waits_of(self.job(id));
        waits.retain(|star, _| away.contains(star));
        let live = self.live_mut(id);
        let back: Vec<StarId> =
            live.absences.keys().filter(|star| !waits.contains_key(*star)).cloned().collect();
        let mut due = Vec::new();
        for (star, what) in waits {
            let told = live.absences.get(&star).copied();
            if told.is_some_and(|told| told.next > turn.now.monotonic) {
                continue;
            }
            let pause = told.map_or(PAUSE_MIN, |told| (told.pause * 4).min(PAUSE_MAX));
            live.absences.insert(star.clone(), Absence { next: turn.now.monotonic + pause, pause });
            due.push((star, what));
        }
        for star in &back {
            live.absences.remove(star);
        }
        for (star, what) in due {
            let message = format!("{}{what}; start its agent, or cancel the job", waiting(id, &star));
            turn.post((Severity::Warning, COORDINATOR, "job"), Some(id), &message);
        }
        for star in back {
            let said = waiting(id, &star);
            turn.resolve((Severity::Warning, COORDINATOR, "job"), vec![Wording::Begins(said)]);
        }
    }

    /// When a Star that is not connected is away, or a notice is due again.
    pub(super) fn next_absence_deadline(&self, stars: &Stars, now: Monotonic) -> Option<Monotonic> {
        let lives = || self.open_jobs().filter_map(|job| job.live.as_ref());
        lives().next()?;
        let stars = stars.absent().filter_map(away_from).filter(|from| *from > now);
        let told = lives().flat_map(|live| live.absences.values()).map(|absence| absence.next);
        stars.chain(told.filter(|next| *next > now)).min()
    }
}

fn waiting(job: JobId, star: &StarId) -> String {
    format!("job {job} waits for {star}, which is not connected: ")
}

/// From when on a Star that is not connected is away.
fn away_from(star: &Star) -> Option<Monotonic> {
    star.session.is_none().then(|| star.last_heard + AWAY_AFTER)
}

/// The Stars that a job needs, and what for.
fn waits_of(job: &Job) -> BTreeMap<StarId, String> {
    let mut waits = BTreeMap::new();
    let record = &job.record;
    if record.pause.is_some() {
        return waits;
    }
    let needs = |place: &Location, index: usize| {
        let open = record.tallies.get(index).map_or(0, Tally::open);
        if open > 0 {
            return Some(format!("{open} of its items go to {}", place.star_id));
        }
        let is_unsealed = record.spec.layout == Layout::Packed && !record.is_sealed_at(index);
        (record.scan.is_done && is_unsealed).then(|| format!("{} is to make its snapshot", place.star_id))
    };
    for (index, place) in record.spec.destinations.iter().enumerate() {
        if let Some(what) = needs(place, index) {
            waits.insert(place.star_id.clone(), what);
        }
    }
    let source = &record.spec.source.star_id;
    if !record.scan.is_done {
        waits.insert(source.clone(), format!("{source} is to list the source"));
    } else if record.tally().open() > 0 {
        waits.entry(source.clone()).or_insert_with(|| "its content is there".to_owned());
    }
    waits
}
