use proptest::prelude::*;

use super::*;

const DAY: i64 = 24 * 60 * 60;

fn snapshot(key: u32, seconds: i64, tags: &[&str]) -> Retained<u32, u8> {
    let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    Retained { key, group: 0, time: WallTime { seconds, nanos: 0 }, tags, is_partial: false }
}

fn kept(policy: &RetentionPolicy, snapshots: &[Retained<u32, u8>]) -> BTreeSet<u32> {
    plan(policy, snapshots).into_iter().filter(Decision::is_kept).map(|decision| decision.key).collect()
}

#[test]
fn the_newest_of_each_day_that_has_one_is_kept() {
    // Two a day, and nothing on the third day.
    let all: Vec<_> = [0, 1, 3, 4]
        .into_iter()
        .flat_map(|day| [(day * 2, day * DAY), (day * 2 + 1, day * DAY + 3600)])
        .map(|(key, seconds)| snapshot(u32::try_from(key).unwrap(), seconds, &[]))
        .collect();
    let policy = RetentionPolicy { daily: 3, ..RetentionPolicy::default() };
    assert_eq!(kept(&policy, &all), BTreeSet::from([9, 7, 3]));
}

#[test]
fn rules_add_up_and_have_reasons() {
    let all = [snapshot(1, 0, &["release"]), snapshot(2, DAY, &[]), snapshot(3, 2 * DAY, &["x"])];
    let policy = RetentionPolicy {
        keep_last: 1,
        yearly: 5,
        tags: ["release".to_owned()].into(),
        ..Default::default()
    };
    let decisions = plan(&policy, &all);
    let newest = &decisions[0].reasons;
    assert_eq!(newest[0], KeepReason::Last(1));
    assert!(
        matches!(&newest[1], KeepReason::Newest { period: Period::Year, name, rank: 1 } if name == "1970")
    );
    assert!(decisions[1].reasons.is_empty());
    let why = decisions[1].why_not.as_ref().unwrap();
    assert!(why.contains("number 2 of the newest, 1 are kept") && why.contains("year 1970"), "{why}");
    assert_eq!(decisions[2].reasons, [KeepReason::Tag("release".to_owned())]);
    assert_eq!(decisions[2].reasons[0].to_string(), "tagged release");
}

#[test]
fn a_partial_snapshot_never_replaces_a_complete_one() {
    let partial = |key, seconds| Retained { is_partial: true, ..snapshot(key, seconds, &[]) };
    let all = [snapshot(1, 0, &[]), snapshot(2, 10, &[]), partial(3, 20), partial(4, 30)];
    let last = RetentionPolicy { keep_last: 1, ..RetentionPolicy::default() };
    assert_eq!(kept(&last, &all), BTreeSet::from([2, 4]));
    let daily = RetentionPolicy { daily: 1, ..RetentionPolicy::default() };
    assert_eq!(kept(&daily, &all), BTreeSet::from([2, 4]));
    assert!(emptied(&all, &plan(&last, &all)).is_empty());
}

#[test]
fn a_rule_that_would_keep_nothing_of_a_group_is_found() {
    let mut all = vec![snapshot(1, 0, &["weekly"]), snapshot(2, 10, &[])];
    let tagged = |tag: &str| RetentionPolicy { tags: [tag.to_owned()].into(), ..RetentionPolicy::default() };
    let nothing_of = |policy: &RetentionPolicy, all: &[_]| emptied(all, &plan(policy, all));
    assert_eq!(nothing_of(&tagged("weekly"), &all), [0_u8; 0]);
    assert_eq!(nothing_of(&tagged("wekly"), &all), [0]);
    all.push(Retained { group: 1, ..snapshot(3, 20, &[]) });
    assert_eq!(nothing_of(&tagged("weekly"), &all), [1], "each group by itself");
    all.push(Retained { is_partial: true, group: 2, ..snapshot(4, 30, &["weekly"]) });
    all.push(Retained { group: 2, ..snapshot(5, 20, &[]) });
    assert_eq!(
        nothing_of(&tagged("weekly"), &all),
        [1, 2],
        "a partial one is no reason to lose the whole one"
    );
}

#[test]
fn a_policy_without_rules_keeps_everything() {
    let all = [snapshot(1, 0, &[]), snapshot(2, 1, &[])];
    let decisions = plan(&RetentionPolicy::default(), &all);
    assert!(decisions.iter().all(|decision| decision.reasons == [KeepReason::NoPolicy]));
}

fn any_policy() -> impl Strategy<Value = RetentionPolicy> {
    let counts = [0_u32..4, 0..4, 0..4, 0..4, 0..4, 0..4];
    (counts, prop::collection::btree_set("[ab]", 0..2)).prop_map(|(counts, tags)| {
        let [keep_last, hourly, daily, weekly, monthly, yearly] = counts;
        RetentionPolicy { keep_last, hourly, daily, weekly, monthly, yearly, tags }
    })
}

fn any_snapshots() -> impl Strategy<Value = Vec<Retained<u32, u8>>> {
    let one = (0..400 * DAY, 0..3_u8, prop::collection::vec("[abc]", 0..2));
    prop::collection::vec(one, 0..40).prop_map(|all| {
        let numbered = (0..).zip(all);
        let build = |(key, (seconds, group, tags)): (u32, (i64, u8, Vec<String>))| Retained {
            key,
            group,
            time: WallTime { seconds, nanos: 0 },
            tags,
            is_partial: false,
        };
        numbered.map(build).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_snapshot_is_decided_on_once_in_whatever_order_they_come(
        policy in any_policy(),
        mut all in any_snapshots(),
    ) {
        let decisions = plan(&policy, &all);
        let keys: BTreeSet<u32> = decisions.iter().map(|decision| decision.key).collect();
        prop_assert_eq!((keys.len(), decisions.len()), (all.len(), all.len()));
        prop_assert!(decisions.iter().all(|decision| decision.is_kept() == decision.why_not.is_none()));
        all.reverse();
        prop_assert_eq!(plan(&policy, &all), decisions);
    }

    #[test]
    fn what_is_kept_is_kept_again(policy in any_policy(), all in any_snapshots()) {
        let first = kept(&policy, &all);
        let rest: Vec<_> = all.into_iter().filter(|snapshot| first.contains(&snapshot.key)).collect();
        prop_assert_eq!(kept(&policy, &rest), first);
    }

    #[test]
    fn the_newest_of_each_group_stays_under_any_rule_that_counts(
        policy in any_policy(),
        all in any_snapshots(),
    ) {
        prop_assume!(policy.is_empty() || policy.tags.is_empty());
        let kept = kept(&policy, &all);
        for group in 0..3 {
            let of_group = all.iter().filter(|snapshot| snapshot.group == group);
            if let Some(newest) = of_group.max_by_key(|snapshot| (snapshot.time, snapshot.key)) {
                prop_assert!(kept.contains(&newest.key));
            }
        }
    }

    #[test]
    fn a_larger_policy_keeps_no_less(policy in any_policy(), all in any_snapshots(), which in 0..6_usize) {
        prop_assume!(!policy.is_empty());
        let mut larger = policy.clone();
        let counts = [
            &mut larger.keep_last,
            &mut larger.hourly,
            &mut larger.daily,
            &mut larger.weekly,
            &mut larger.monthly,
            &mut larger.yearly,
        ];
        *counts.into_iter().nth(which).unwrap() += 1;
        prop_assert!(kept(&larger, &all).is_superset(&kept(&policy, &all)));
    }

    #[test]
    fn a_rule_keeps_as_many_as_there_are_or_as_it_says(count in 1_u32..5, all in any_snapshots()) {
        for period in [Period::Hour, Period::Day, Period::Week, Period::Month, Period::Year] {
            let mut policy = RetentionPolicy::default();
            match period {
                Period::Hour => policy.hourly = count,
                Period::Day => policy.daily = count,
                Period::Week => policy.weekly = count,
                Period::Month => policy.monthly = count,
                Period::Year => policy.yearly = count,
            }
            let kept = kept(&policy, &all);
            for group in 0..3 {
                let of_group = || all.iter().filter(|snapshot| snapshot.group == group);
                let periods: BTreeSet<String> = of_group().map(|snapshot| period.name(snapshot.time)).collect();
                let found = of_group().filter(|snapshot| kept.contains(&snapshot.key)).count();
                prop_assert_eq!(found, periods.len().min(count as usize));
            }
        }
    }
}
