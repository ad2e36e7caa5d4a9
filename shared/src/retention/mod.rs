//! Which snapshots to keep: a policy, and a plan with the reason for each snapshot.
//!
//! Rules add up: a snapshot that any rule selects is kept. A rule like `daily: 7` keeps the newest snapshot of each of
//! the last seven days that have one; days without a snapshot do not count. Periods are those of UTC, weeks are those
//! of ISO 8601. Snapshots of different groups, such as sources, do not replace each other. Neither do partial and
//! complete ones; the rules apply to them separately. A policy without rules keeps everything, since an empty policy is
//! not meant to delete all backups.
//!
//! Nothing is deleted here: the plan is for people to check first.

mod calendar;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::calendar::Period;
use crate::time::WallTime;

/// What to keep.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionPolicy {
    /// Number of newest snapshots to keep.
    pub keep_last: u32,
    /// Number of hours of which the newest snapshot is kept.
    pub hourly: u32,
    /// Number of days of which the newest snapshot is kept.
    pub daily: u32,
    /// Number of weeks of which the newest snapshot is kept.
    pub weekly: u32,
    /// Number of months of which the newest snapshot is kept.
    pub monthly: u32,
    /// Number of years of which the newest snapshot is kept.
    pub yearly: u32,
    /// Snapshots with one of these tags are kept.
    pub tags: BTreeSet<String>,
}

impl RetentionPolicy {
    /// Whether it has no rule, and so keeps everything.
    pub fn is_empty(&self) -> bool {
        self.keep_last == 0 && self.tags.is_empty() && self.periods().iter().all(|(_, count)| *count == 0)
    }

    fn periods(&self) -> [(Period, u32); 5] {
        [
            (Period::Hour, self.hourly),
            (Period::Day, self.daily),
            (Period::Week, self.weekly),
            (Period::Month, self.monthly),
            (Period::Year, self.yearly),
        ]
    }
}

/// The properties of a snapshot that a policy uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retained<K, G> {
    /// Its id; of two with the same time the greater one is newer.
    pub key: K,
    /// Its group. Snapshots of the same group can replace each other.
    pub group: G,
    /// When it was taken.
    pub time: WallTime,
    /// Its tags.
    pub tags: Vec<String>,
    /// Whether some entries of its source are missing. It never replaces a complete one.
    pub is_partial: bool,
}

/// Why a snapshot is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum KeepReason {
    /// The policy has no rules.
    NoPolicy,
    /// It is one of the newest; the newest is 1.
    Last(u32),
    /// It is the newest of a period.
    Newest {
        /// The kind of period.
        period: Period,
        /// The name of the period: `2026-11-25`, `2026-W48`.
        name: String,
        /// Its position among the snapshots that the rule keeps; the newest is 1.
        rank: u32,
    },
    /// It carries a tag.
    Tag(String),
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPolicy => f.write_str("the policy has no rules"),
            Self::Last(rank) => write!(f, "number {rank} of the newest"),
            Self::Newest { period, name, .. } => write!(f, "newest of {} {name}", period.as_str()),
            Self::Tag(tag) => write!(f, "tagged {tag}"),
        }
    }
}

/// The decision on one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<K> {
    /// The snapshot.
    pub key: K,
    /// Why it is kept. It is deleted if there is no reason.
    pub reasons: Vec<KeepReason>,
    /// For a snapshot that is deleted: why no rule selects it.
    pub why_not: Option<String>,
}

impl<K> Decision<K> {
    /// Whether it is kept.
    pub fn is_kept(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// Decides on every snapshot. The decisions are in order of groups, the newest snapshot first, and complete ones before
/// partial ones.
pub fn plan<K: Ord + Clone, G: Ord + Clone>(
    policy: &RetentionPolicy,
    snapshots: &[Retained<K, G>],
) -> Vec<Decision<K>> {
    let mut groups: BTreeMap<(&G, bool), Vec<&Retained<K, G>>> = BTreeMap::new();
    for snapshot in snapshots {
        groups.entry((&snapshot.group, snapshot.is_partial)).or_default().push(snapshot);
    }
    groups.into_values().flat_map(|group| plan_group(policy, group)).collect()
}

/// The groups of which a plan keeps nothing, or no complete snapshot although there are some. Only a policy with
/// nothing but tags can do that, and it is then more often mistyped than intended.
pub fn emptied<K: Ord + Clone, G: Ord + Clone>(
    snapshots: &[Retained<K, G>],
    decisions: &[Decision<K>],
) -> Vec<G> {
    let kept: BTreeSet<&K> =
        decisions.iter().filter(|decision| decision.is_kept()).map(|decision| &decision.key).collect();
    let mut groups: BTreeMap<(&G, bool), bool> = BTreeMap::new();
    for snapshot in snapshots {
        *groups.entry((&snapshot.group, snapshot.is_partial)).or_default() |= kept.contains(&snapshot.key);
    }
    let has_whole = |group: &G| groups.contains_key(&(group, false));
    let emptied = groups
        .iter()
        .filter(|((group, is_partial), is_kept)| !**is_kept && (!*is_partial || !has_whole(group)));
    emptied.map(|((group, _), _)| (*group).clone()).collect()
}

fn plan_group<K: Ord + Clone, G>(
    policy: &RetentionPolicy,
    mut group: Vec<&Retained<K, G>>,
) -> Vec<Decision<K>> {
    group.sort_by(|a, b| (b.time, &b.key).cmp(&(a.time, &a.key)));
    let mut rules: Vec<_> =
        policy.periods().into_iter().map(|(period, count)| PeriodRule::new(period, count)).collect();
    let mut decisions = Vec::with_capacity(group.len());
    for (index, snapshot) in group.into_iter().enumerate() {
        let mut reasons = Vec::new();
        if policy.is_empty() {
            reasons.push(KeepReason::NoPolicy);
        }
        let rank = u32::try_from(index + 1).unwrap_or(u32::MAX);
        if rank <= policy.keep_last {
            reasons.push(KeepReason::Last(rank));
        }
        reasons.extend(rules.iter_mut().filter_map(|rule| rule.wants(snapshot.time)));
        let tags = snapshot.tags.iter().filter(|tag| policy.tags.contains(*tag));
        reasons.extend(tags.cloned().map(KeepReason::Tag));
        let why_not = reasons.is_empty().then(|| why_not(policy, &rules, rank, snapshot.is_partial));
        decisions.push(Decision { key: snapshot.key.clone(), reasons, why_not });
    }
    decisions
}

/// The state of one rule while it goes from the newest snapshot to the oldest.
struct PeriodRule {
    period: Period,
    count: u32,
    kept: u32,
    /// The period of the previous snapshot.
    current: Option<String>,
}

impl PeriodRule {
    fn new(period: Period, count: u32) -> Self {
        Self { period, count, kept: 0, current: None }
    }

    /// Called for each snapshot, the newest first.
    fn wants(&mut self, time: WallTime) -> Option<KeepReason> {
        let name = self.period.name(time);
        if self.current.as_ref() == Some(&name) {
            return None;
        }
        self.current = Some(name.clone());
        if self.kept == self.count {
            return None;
        }
        self.kept += 1;
        Some(KeepReason::Newest { period: self.period, name, rank: self.kept })
    }
}

fn why_not(policy: &RetentionPolicy, rules: &[PeriodRule], rank: u32, is_partial: bool) -> String {
    let mut parts = Vec::new();
    if is_partial {
        parts.push("counted among partial snapshots".to_owned());
    }
    if policy.keep_last > 0 {
        parts.push(format!("number {rank} of the newest, {} are kept", policy.keep_last));
    }
    for rule in rules.iter().filter(|rule| rule.count > 0) {
        let (period, name) = (rule.period.as_str(), rule.current.as_deref().unwrap_or_default());
        // A rule that has reached its number has passed its last period, unless that period is not over yet.
        parts.push(format!("{period} {name} has a newer one, or {} newer {period}s are kept", rule.count));
    }
    if !policy.tags.is_empty() {
        parts.push("no tag that is kept".to_owned());
    }
    parts.join("; ")
}
