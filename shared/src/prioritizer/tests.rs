use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn item(priority: Priority, size: u64, seconds: i64) -> TransferItem {
    TransferItem::new("a", priority, size, WallTime { seconds, nanos: 0 })
}

fn chain(kinds: &[PrioritizerKind]) -> ComposablePrioritizer {
    ComposablePrioritizer::from_kinds(kinds)
}

#[test]
fn a_new_item_has_no_retries() {
    assert_eq!(item(Priority::Normal, 1, 0).retry_count, 0);
}

#[test]
fn semantic_puts_critical_before_low() {
    let mut items =
        [Priority::Low, Priority::Critical, Priority::Normal, Priority::High].map(|p| item(p, 1, 0));
    items.sort_by(|a, b| SemanticPrioritizer.compare(a, b));
    assert_eq!(items.map(|item| item.priority), Priority::ALL);
}

#[test]
fn smallest_first_orders_by_size() {
    let (small, large) = (item(Priority::Low, 1, 9), item(Priority::Critical, 2, 0));
    assert_eq!(SmallestFirstPrioritizer.compare(&small, &large), Ordering::Less);
    assert_eq!(SmallestFirstPrioritizer.compare(&large, &small), Ordering::Greater);
}

#[test]
fn largest_first_orders_by_size_downwards() {
    let (small, large) = (item(Priority::Low, 1, 0), item(Priority::Low, 2, 0));
    assert_eq!(LargestFirstPrioritizer.compare(&large, &small), Ordering::Less);
    assert_eq!(LargestFirstPrioritizer.compare(&small, &small), Ordering::Equal);
}

#[test]
fn oldest_first_orders_by_modification_time() {
    let (old, new) = (item(Priority::Low, 1, -5), item(Priority::Low, 1, 5));
    assert_eq!(OldestFirstPrioritizer.compare(&old, &new), Ordering::Less);
}

#[test]
fn newest_first_orders_by_modification_time_downwards() {
    let (old, new) = (item(Priority::Low, 1, -5), item(Priority::Low, 1, 5));
    assert_eq!(NewestFirstPrioritizer.compare(&new, &old), Ordering::Less);
    assert_eq!(NewestFirstPrioritizer.compare(&new, &new), Ordering::Equal);
}

#[test]
fn fewest_retries_orders_zero_two_five() {
    let mut items = [5, 0, 2].map(|retry_count| TransferItem { retry_count, ..item(Priority::Low, 1, 0) });
    items.sort_by(|a, b| FewestRetriesPrioritizer.compare(a, b));
    assert_eq!(items.map(|item| item.retry_count), [0, 2, 5]);
}

#[test]
fn the_default_chain_is_semantic_then_smallest_then_oldest() {
    let chain = ComposablePrioritizer::default_chain();
    assert_eq!(chain.chain_names(), ["semantic", "smallest_first", "oldest_first"]);
    assert_eq!(ComposablePrioritizer::default().chain_names(), chain.chain_names());
    let mut items = [
        item(Priority::Low, 1, 1),
        item(Priority::Critical, 900, 5),
        item(Priority::Critical, 10, 7),
        item(Priority::Critical, 10, 6),
    ];
    items.sort_by(|a, b| chain.compare(a, b));
    assert_eq!(items.map(|item| (item.size, item.modified_at.seconds)), [(10, 6), (10, 7), (900, 5), (1, 1)]);
}

#[test]
fn a_custom_chain_asks_its_criteria_in_order() {
    let chain =
        ComposablePrioritizer::new(vec![Box::new(LargestFirstPrioritizer), Box::new(NewestFirstPrioritizer)]);
    let mut items = [item(Priority::Low, 5, 1), item(Priority::Low, 5, 2), item(Priority::Low, 9, 0)];
    items.sort_by(|a, b| chain.compare(a, b));
    assert_eq!(items.map(|item| (item.size, item.modified_at.seconds)), [(9, 0), (5, 2), (5, 1)]);
}

#[test]
fn identical_items_are_equal_but_totally_ordered_by_sequence() {
    let first = item(Priority::Normal, 5, 5);
    let second = TransferItem { sequence: 1, ..first.clone() };
    let chain = ComposablePrioritizer::default_chain();
    assert_eq!(chain.compare(&first, &second), Ordering::Equal);
    assert_eq!(chain.compare_total(&first, &second), Ordering::Less);
    assert!(chain.key(&first) < chain.key(&second));
}

#[test]
fn an_empty_chain_is_always_equal_and_orders_by_sequence() {
    let (a, b) = (item(Priority::Low, 9, 9), TransferItem { sequence: 1, ..item(Priority::Critical, 1, 1) });
    let chain = chain(&[]);
    assert_eq!(chain.compare(&a, &b), Ordering::Equal);
    assert_eq!(chain.compare_total(&a, &b), Ordering::Less);
    assert_eq!(chain.key_bytes(), 8);
}

#[test]
fn a_chain_of_one_is_its_criterion() {
    let chain = chain(&[PrioritizerKind::SmallestFirst]);
    assert_eq!(chain.compare(&item(Priority::Low, 1, 0), &item(Priority::Critical, 2, 0)), Ordering::Less);
}

#[test]
fn a_stable_sort_keeps_the_order_of_equal_items() {
    let mut items: Vec<_> =
        (0..20).map(|sequence| TransferItem { sequence, ..item(Priority::Normal, 5, 5) }).collect();
    items.sort_by(|a, b| ComposablePrioritizer::default_chain().compare(a, b));
    assert!(items.is_sorted_by_key(|item| item.sequence));
}

#[test]
fn size_breaks_a_tie_of_priority_and_age_a_tie_of_size() {
    let chain = ComposablePrioritizer::default_chain();
    assert_eq!(chain.compare(&item(Priority::High, 1, 9), &item(Priority::High, 2, 0)), Ordering::Less);
    assert_eq!(chain.compare(&item(Priority::High, 2, 0), &item(Priority::High, 2, 9)), Ordering::Less);
}

#[test]
fn kinds_round_trip_through_text_and_json_and_name_their_criterion() {
    for kind in PrioritizerKind::ALL {
        assert_eq!(kind.as_str().parse(), Ok(kind));
        assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        assert_eq!(kind.criterion().name(), kind.as_str());
    }
    assert!("biggest".parse::<PrioritizerKind>().is_err());
}

#[test]
fn every_key_of_a_chain_has_the_announced_length() {
    let chain = chain(&PrioritizerKind::ALL);
    let mut key = b"prefix".to_vec();
    chain.write_key(&item(Priority::Low, u64::MAX, i64::MIN), &mut key);
    assert_eq!(key.len(), b"prefix".len() + chain.key_bytes());
    assert!(key.starts_with(b"prefix"));
}

const EVERY_FOURTH: AgingConfig =
    AgingConfig { promote_after: Duration::from_secs(60), oldest_every: NonZeroU32::new(4).unwrap() };

#[test]
fn every_nth_pick_takes_the_oldest_without_a_clock() {
    let mut policy = AgingPolicy::new(EVERY_FOURTH);
    let mut picks = (0..8).map(|_| policy.pick(Monotonic::ZERO, Monotonic::ZERO, Monotonic::ZERO));
    assert_eq!(
        picks.by_ref().take(4).collect::<Vec<_>>(),
        [Pick::Best, Pick::Best, Pick::Best, Pick::Oldest]
    );
    assert_eq!(picks.collect::<Vec<_>>(), [Pick::Best, Pick::Best, Pick::Best, Pick::Oldest]);
}

#[test]
fn an_overdue_item_gets_every_second_pick_from_young_ones() {
    let mut policy = AgingPolicy::new(EVERY_FOURTH);
    let now = Monotonic::from_ms(60_001);
    let picks: Vec<_> = (0..4).map(|_| policy.pick(now, now, Monotonic::ZERO)).collect();
    assert_eq!(picks, [Pick::Best, Pick::Oldest, Pick::Best, Pick::Oldest]);
}

#[test]
fn an_item_exactly_at_the_limit_is_not_overdue() {
    let mut policy = AgingPolicy::new(EVERY_FOURTH);
    let now = Monotonic::from_ms(60_000);
    let picks: Vec<_> = (0..3).map(|_| policy.pick(now, now, Monotonic::ZERO)).collect();
    assert_eq!(picks, [Pick::Best; 3]);
}

#[test]
fn an_overdue_backlog_keeps_its_priorities() {
    let mut policy = AgingPolicy::new(EVERY_FOURTH);
    let now = Monotonic::from_ms(600_000);
    let picks: Vec<_> = (0..3).map(|_| policy.pick(now, Monotonic::from_ms(1), Monotonic::ZERO)).collect();
    assert_eq!(picks, [Pick::Best; 3]);
}

#[test]
fn oldest_every_one_is_first_in_first_out() {
    let mut policy = AgingPolicy::new(AgingConfig { oldest_every: NonZeroU32::MIN, ..EVERY_FOURTH });
    assert_eq!(policy.pick(Monotonic::ZERO, Monotonic::ZERO, Monotonic::ZERO), Pick::Oldest);
    assert_eq!(policy.pick(Monotonic::ZERO, Monotonic::ZERO, Monotonic::ZERO), Pick::Oldest);
}

#[test]
fn aging_configuration_has_defaults_and_refuses_zero() {
    assert_eq!(serde_json::from_str::<AgingConfig>("{}").unwrap(), AgingConfig::default());
    assert_eq!(AgingConfig::default().oldest_every.get(), 16);
    assert!(serde_json::from_str::<AgingConfig>(r#"{"oldest_every":0}"#).is_err());
}

fn any_time() -> impl Strategy<Value = WallTime> {
    let seconds = prop_oneof![any::<i64>(), -3..3i64, Just(i64::MIN), Just(i64::MAX)];
    (seconds, prop_oneof![0..3u32, 999_999_997..1_000_000_000u32])
        .prop_map(|(seconds, nanos)| WallTime { seconds, nanos })
}

fn any_item() -> impl Strategy<Value = TransferItem> {
    let size = prop_oneof![any::<u64>(), 0..3u64, 255..258u64];
    let retries = prop_oneof![any::<u32>(), 0..3u32, 255..258u32];
    let sequence = prop_oneof![any::<u64>(), 0..3u64];
    (prop::sample::select(&Priority::ALL[..]), size, any_time(), retries, sequence).prop_map(
        |(priority, size, modified_at, retry_count, sequence)| TransferItem {
            retry_count,
            sequence,
            ..TransferItem::new("x", priority, size, modified_at)
        },
    )
}

fn any_chain() -> impl Strategy<Value = Vec<PrioritizerKind>> {
    prop::collection::vec(prop::sample::select(&PrioritizerKind::ALL[..]), 0..7)
}

proptest! {
    #[test]
    fn the_byte_order_of_keys_is_the_order_of_items(kinds in any_chain(), a in any_item(), b in any_item()) {
        let chain = chain(&kinds);
        prop_assert_eq!(chain.key(&a).cmp(&chain.key(&b)), chain.compare_total(&a, &b));
    }

    #[test]
    fn comparison_is_antisymmetric_and_transitive(
        kinds in any_chain(), a in any_item(), b in any_item(), c in any_item(),
    ) {
        let chain = chain(&kinds);
        prop_assert_eq!(chain.compare(&a, &b), chain.compare(&b, &a).reverse());
        if chain.compare(&a, &b).is_le() && chain.compare(&b, &c).is_le() {
            prop_assert!(chain.compare(&a, &c).is_le());
        }
    }

    /// One Low item waits while better ones arrive without end.
    #[test]
    fn nothing_starves(older in 0..20u64, every in 1..20u32, arrivals in prop::collection::vec(1..4u64, 400)) {
        let chain = ComposablePrioritizer::default_chain();
        let mut policy = AgingPolicy::new(AgingConfig {
            promote_after: Duration::from_secs(3600),
            oldest_every: NonZeroU32::new(every).unwrap(),
        });
        let (mut by_key, mut by_age) = (BTreeMap::new(), BTreeMap::new());
        let mut sequence = 0;
        let mut enqueue = |priority, by_key: &mut BTreeMap<Vec<u8>, u64>, by_age: &mut BTreeMap<u64, Vec<u8>>| {
            let item = TransferItem { sequence, ..item(priority, 1, 0) };
            by_key.insert(chain.key(&item), sequence);
            by_age.insert(sequence, chain.key(&item));
            sequence += 1;
        };
        for _ in 0..older {
            enqueue(Priority::Normal, &mut by_key, &mut by_age);
        }
        enqueue(Priority::Low, &mut by_key, &mut by_age);
        let mut picked_after = None;
        for (turn, arriving) in arrivals.into_iter().enumerate() {
            for _ in 0..arriving {
                enqueue(Priority::Critical, &mut by_key, &mut by_age);
            }
            let chosen = match policy.pick(Monotonic::ZERO, Monotonic::ZERO, Monotonic::ZERO) {
                Pick::Best => *by_key.first_key_value().unwrap().1,
                Pick::Oldest => *by_age.first_key_value().unwrap().0,
            };
            by_key.remove(&by_age.remove(&chosen).unwrap());
            if chosen == older {
                picked_after = Some(turn as u64 + 1);
                break;
            }
        }
        let bound = u64::from(every) * (older + 1);
        prop_assert!(picked_after.is_some_and(|turns| turns <= bound), "{:?} of {}", picked_after, bound);
    }
}
