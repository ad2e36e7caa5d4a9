//! Evidence against an item: whether agents die because of it, or die anyway.
//!
//! Under the hypothesis that the item is innocent, whatever makes agents die picks any of the Stars that there are, so each death is that
//! of one particular Star with the probability `1 / stars`. This is the sign test in its general form (Conover, "Practical
//! Nonparametric Statistics", chapter 3: the binomial test): of all deaths that count, those of one Star's agent while the item was
//! all that it had in its hands are binomial at most. The item is given up if as many as were counted, or more, would come by chance
//! in one of 50,000 histories. With 3 Stars and no other death that takes 10 deaths, with 9 Stars and more 5, and each death of
//! another Star, or without the item, asks for more.
//!
//! Times are not compared, though an item that kills soon after its start would be found sooner by them: a test or an operator
//! that kills agents as soon as they are up again makes the time between a start and a death short as well. What counts for a Star is
//! a death without the item: if there are as many of its own, it proves nothing. A Star that dies whenever it has the item,
//! and at no other time, makes the item look guilty whatever the cause is: nothing that a coordinator sees tells the two
//! apart.

/// Minimum number of deaths, with the item alone in the agent's hands, after which it is given up.
pub(super) const DEATHS_ALONE: u32 = 5;
/// The same in a grid of one Star, where there is nothing to compare with.
const DEATHS_ALONE_MAX: u32 = 20;
/// Maximum number of deaths, with the item among others in the agent's hands, that may be caused by it. The rest count as
/// deaths without it.
pub(super) const IN_COMPANY_MAX: u32 = 7;
/// The greatest probability with which an innocent item may look guilty.
const CHANCE_MAX: f64 = 2e-5;

/// Deaths with an item and without it, all in the same span of time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Evidence {
    /// Deaths of one Star's agent while the item was all that it had in its hands.
    pub(super) alone: u32,
    /// Deaths of the same agent while the item was among others in its hands.
    pub(super) in_company: u32,
    /// Deaths of the same agent while the item was not alone in its hands.
    pub(super) own_other: u32,
    /// Deaths of other agents.
    pub(super) of_others: u32,
    /// Number of Stars.
    pub(super) stars: u32,
}

impl Evidence {
    /// Whether the item is given up.
    pub(super) fn is_conclusive(&self) -> bool {
        let own_without = self.own_other.saturating_sub(self.in_company.min(IN_COMPANY_MAX));
        if self.alone < DEATHS_ALONE || own_without >= self.alone {
            return false;
        }
        if self.stars < 2 {
            return self.alone >= DEATHS_ALONE_MAX;
        }
        let count = self.alone.saturating_add(own_without).saturating_add(self.of_others);
        upper_tail(self.alone, count, 1.0 / f64::from(self.stars)) <= CHANCE_MAX
    }
}

/// The probability of `least` or more of `count` independent events that each have the probability `part`, below 1.
fn upper_tail(least: u32, count: u32, part: f64) -> f64 {
    if least == 0 {
        return 1.0;
    }
    // The first term by its logarithm, since its factors are beyond what a float can hold; each next one from the one before.
    let choose: f64 =
        (1..=least).map(|index| (f64::from(count - least + index) / f64::from(index)).ln()).sum();
    let log = choose + f64::from(least) * part.ln() + f64::from(count - least) * (1.0 - part).ln();
    let (mut term, mut sum) = (log.exp(), 0.0);
    for index in least..=count {
        sum += term;
        term *= f64::from(count - index) / f64::from(index + 1) * part / (1.0 - part);
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Random(u64);

    impl Random {
        fn below(&mut self, end: u32) -> u32 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            u32::try_from((self.0 >> 33) % u64::from(end)).expect("it is below a small number")
        }
    }

    /// Deaths of random Stars, a moment after all are up again, while star 0 tries to read an item from star 1. Shows the
    /// evidence after each death with the item, until the item is stored or there were `deaths` deaths.
    fn innocent(random: &mut Random, stars: u32, deaths: u32, mut seen: impl FnMut(Evidence)) {
        let needed = 1 + random.below(3000);
        let pause = 100 + random.below(4000);
        let restart = random.below(500);
        // Memory of earlier deaths ends with the coordinator, so it begins here.
        let (mut alone, mut other, mut moved) = ([0; 2], vec![0; stars as usize], 0);
        for _ in 0..deaths {
            let until = random.below(2 * pause);
            let victim = random.below(stars) as usize;
            moved += until.saturating_sub(restart);
            if moved > needed {
                return;
            }
            if victim > 1 || until <= restart {
                other[victim] += 1;
                continue;
            }
            alone[victim] += 1;
            moved = 0;
            let all: u32 = other.iter().sum();
            seen(Evidence {
                alone: alone[victim],
                in_company: 0,
                own_other: other[victim],
                of_others: all - other[victim] + alone[1 - victim],
                stars,
            });
        }
    }

    #[test]
    fn deaths_at_random_practically_never_make_an_innocent_item_guilty() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let (mut histories, mut guilty, mut by_count) = (0, 0, 0);
        for stars in [2, 3, 3, 3, 5, 20] {
            for _ in 0..10_000 {
                let (mut is_guilty, mut is_counted) = (false, false);
                innocent(&mut random, stars, 100, |evidence| {
                    is_guilty |= evidence.is_conclusive();
                    // Five deaths, and fewer of the same agent without it: nothing else asked.
                    is_counted |= evidence.alone >= DEATHS_ALONE && evidence.own_other < evidence.alone;
                });
                histories += 1;
                guilty += u32::from(is_guilty);
                by_count += u32::from(is_counted);
            }
        }
        assert!(guilty <= 6, "{guilty} of {histories} innocent items");
        assert!(by_count > 1_000, "the histories try nothing: {by_count} would be guilty by counting");
    }

    #[test]
    fn what_kills_each_time_is_given_up_soon_and_later_where_agents_die_anyway() {
        let deaths = |stars: u32, of_others: u32, in_company: u32| {
            let evidence = |alone| Evidence { alone, in_company, own_other: in_company, of_others, stars };
            (1..100).find(|&alone| evidence(alone).is_conclusive()).expect("it is given up in the end")
        };
        let quiet: Vec<u32> = [1, 2, 3, 4, 5, 9, 1000].map(|stars| deaths(stars, 0, 0)).to_vec();
        assert_eq!(quiet, [20, 16, 10, 8, 7, 5, 5]);
        assert_eq!(deaths(3, 0, 3), 10, "deaths among others are its doing");
        assert!((11..=14).contains(&deaths(3, 2, 3)), "{}", deaths(3, 2, 3));
        assert_eq!(deaths(100, 5, 3), 5);
    }

    #[test]
    fn the_tail_is_that_of_the_binomial_distribution() {
        for (least, count, part, expected) in
            [(1, 1, 0.25, 0.25), (1, 2, 0.5, 0.75), (5, 5, 0.1, 1e-5), (3, 4, 0.5, 0.3125), (0, 9, 0.1, 1.0)]
        {
            assert!((upper_tail(least, count, part) - expected).abs() < 1e-9, "{least} of {count}");
        }
        assert!(upper_tail(600, 1200, 0.5) < 0.52, "many factors are no overflow");
    }
}
