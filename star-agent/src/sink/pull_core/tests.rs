//! Tests of the machine: the order of effects, the second pull, and what a cancelled assignment still does. The simulation
//! drives it under faults.

use orbit_shared::session::{ChunkCounts, Failure, FailureCause, Fault};

use super::*;
use crate::core::test_assignment;

struct Item(usize);

impl WrittenItem for Item {
    fn item(&self) -> usize {
        self.0
    }

    fn bytes(&self) -> u64 {
        1
    }

    fn result(&self, duration: Duration) -> ItemResult {
        let (size, is_changed) = (1, false);
        ItemResult::Stored {
            size,
            bytes_transferred: 1,
            bytes_deduplicated: 0,
            duration,
            is_changed,
            chunks: ChunkCounts::default(),
        }
    }
}

struct Run {
    core: PullCore<Item>,
    effects: Vec<Effect<Item>>,
}

impl Run {
    /// A run in which the first `wanted` items of `count` must be pulled, and the others are unchanged.
    fn new(target: Target, count: usize, wanted: usize) -> Self {
        let mut assignment = test_assignment(1, 1);
        let first = assignment.items[0].clone();
        let items = (0..count as u64).map(|sequence| AssignedItem { sequence, ..first.clone() });
        assignment.items = items.collect();
        let limits = RoundLimits { items: 2, bytes: 1_000 };
        let mut run = Self { core: PullCore::new(target, limits, Arc::new(assignment)), effects: Vec::new() };
        let (wanted, unchanged) = ((0..wanted).collect(), (wanted..count).collect());
        run.take(Event::Planned(Planned { wanted, unchanged, ..Planned::default() }));
        run
    }

    fn take(&mut self, event: Event<Item>) {
        self.core.step(event, &mut self.effects);
    }

    /// Takes the effects so far, as words.
    fn effects(&mut self) -> Vec<String> {
        let items = |items: &[Item]| items.iter().map(|item| item.0).collect::<Vec<_>>();
        let word = |effect| match effect {
            Effect::SettleDoubts(items) => format!("settle {items:?}"),
            Effect::Pull { items, accepts_changes } => format!("pull {items:?} {accepts_changes}"),
            Effect::SyncContent(written) => format!("sync {:?}", items(&written)),
            Effect::Rename(written) => format!("rename {:?}", items(&written)),
            Effect::SyncDirectories(written) => format!("sync names {:?}", items(&written)),
            Effect::Commit { items: written, is_last } => format!("commit {:?} {is_last}", items(&written)),
            Effect::Discard(failed) => format!("discard {}", failed.len()),
            Effect::Report(outcomes) => {
                let sequences: Vec<u64> = outcomes.iter().map(|outcome| outcome.sequence).collect();
                format!("report {sequences:?}")
            }
            other => format!("{other:?}").to_lowercase(),
        };
        self.effects.drain(..).map(word).collect()
    }
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

fn failed(item: usize, cause: FailureCause, fault: Fault) -> Failed {
    Failed { item, failure: Failure { cause, fault, message: String::new() } }
}

fn durable(items: &[usize]) -> Event<Item> {
    let durable = items.iter().map(|&item| Item(item)).collect();
    Event::Durable { durable, failed: Vec::new(), elapsed: Duration::ZERO }
}

#[test]
fn a_file_is_reported_after_content_name_and_directory_are_durable() {
    let mut run = Run::new(Target::Files, 3, 2);
    assert_eq!(run.effects(), ["settle [2]"], "what is in place may be in doubt");
    run.take(Event::DoubtsSettled { durable: vec![2], failed: Vec::new() });
    assert_eq!(run.effects(), ["report [2]", "pull [0, 1] false"]);
    run.take(Event::ItemWritten(Item(0)));
    assert!(run.effects().is_empty(), "one item is no round");
    run.take(Event::ItemWritten(Item(1)));
    assert_eq!(run.effects(), ["sync [0, 1]"]);
    run.take(Event::PullEnded);
    let cannot_sync = failed(1, FailureCause::DestinationError, Fault::Destination);
    run.take(Event::ContentSynced { synced: vec![Item(0)], failed: vec![cannot_sync.clone()] });
    assert_eq!(run.effects(), ["discard 1", "rename [0]"]);
    run.take(Event::Discarded(vec![cannot_sync]));
    assert_eq!(run.effects(), ["report [1]"]);
    run.take(Event::Renamed { renamed: vec![Item(0)], failed: Vec::new() });
    assert_eq!(run.effects(), ["sync names [0]"]);
    run.take(durable(&[0]));
    assert_eq!(run.effects(), ["report [0]", "finish"]);
    assert!(run.core.is_over());
}

#[test]
fn a_file_that_changed_is_pulled_once_more_after_the_others_and_then_counts() {
    let mut run = Run::new(Target::Vault, 2, 2);
    run.effects();
    let changed = || failed(0, FailureCause::Transient, Fault::Item);
    run.take(Event::ItemFailed(changed()));
    run.take(Event::ItemWritten(Item(1)));
    run.take(Event::PullEnded);
    assert_eq!(run.effects(), ["commit [1] true"]);
    run.take(durable(&[1]));
    assert_eq!(run.effects(), ["report [1]", "pull [0] true"]);
    run.take(Event::ItemFailed(changed()));
    run.take(Event::PullEnded);
    assert_eq!(run.effects(), ["report [0]", "commit [] true"], "it is not pulled a third time");
    run.take(durable(&[]));
    assert_eq!(run.effects(), ["finish"]);
}

#[test]
fn nothing_is_pulled_once_more_from_a_source_that_is_gone() {
    let mut run = Run::new(Target::Files, 1, 1);
    run.take(Event::PullBroken);
    run.take(Event::ItemFailed(failed(0, FailureCause::Transient, Fault::Item)));
    run.take(Event::PullEnded);
    assert_eq!(run.effects(), ["pull [0] false", "report [0]", "finish"]);
}

#[test]
fn a_cancelled_assignment_finishes_its_round_and_reports_nothing() {
    let mut run = Run::new(Target::Files, 3, 3);
    run.effects();
    (0..3).for_each(|item| run.take(Event::ItemWritten(Item(item))));
    assert_eq!(run.effects(), ["sync [0, 1]"]);
    run.take(Event::Cancelled);
    run.take(Event::ContentSynced { synced: vec![Item(0), Item(1)], failed: Vec::new() });
    run.take(Event::Renamed { renamed: vec![Item(0), Item(1)], failed: Vec::new() });
    assert_eq!(run.effects(), ["rename [0, 1]", "sync names [0, 1]"]);
    run.take(durable(&[0, 1]));
    assert_eq!(run.effects(), ["clean"], "no other round begins");
    assert!(run.core.is_over());
}
