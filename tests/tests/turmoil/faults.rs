//! The faults of one run: a schedule from the seed, and its execution on the simulation.
//!
//! Every fault is repaired again, and [`Schedule::heal`] repairs all that are left. Nothing is checked here.

use std::collections::BTreeMap;
use std::time::Duration;

use orbit_tests::random::Random;
use turmoil::Sim;

/// Maximum number of crashes of Stars in one run. An item that was held during three of them is rightly given up.
const STAR_CRASHES_MAX: u32 = 2;
/// Earliest time of the first fault, in milliseconds: the programs may be starting.
const FIRST_MS: u64 = 500;

/// A fault begins or ends.
#[derive(Debug, Clone, PartialEq)]
enum Act {
    Partition(String, String),
    PartitionOneWay(String, String),
    Hold(String, String),
    /// Repairs a link, whatever its fault; held messages arrive.
    Mend(String, String),
    Lose(f64),
    Delay(Duration),
    Crash(String),
    Bounce(String),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// By time in milliseconds and a running number.
    acts: BTreeMap<(u64, usize), Act>,
    hosts: Vec<String>,
    delay: Duration,
}

/// The parameters of all schedules: when faults occur, and the delay of messages without them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// When everything is repaired.
    pub(crate) until: Duration,
    /// Number of faults.
    pub(crate) count: u64,
    /// Maximum delay of a message without faults.
    pub(crate) delay: Duration,
}

impl Schedule {
    /// The schedule of a seed. A link or a host has one fault at a time.
    pub(crate) fn draw(random: &mut Random, hosts: &[String], extent: Extent) -> Self {
        let mut schedule = Self { acts: BTreeMap::new(), hosts: hosts.to_vec(), delay: extent.delay };
        let until = extent.until.as_millis() as u64;
        let mut busy: BTreeMap<String, u64> = BTreeMap::new();
        let mut star_crashes = 0;
        let mut starts: Vec<u64> =
            (0..extent.count).map(|_| FIRST_MS + random.below(until - FIRST_MS)).collect();
        starts.sort_unstable();
        for start in starts {
            let (place, begin, end, longest) = schedule.fault(random, extent.delay);
            let is_busy = busy.get(&place).is_some_and(|&free| free >= start);
            let is_star_crash = matches!(&begin, Act::Crash(host) if *host != hosts[0]);
            if is_busy || (is_star_crash && star_crashes == STAR_CRASHES_MAX) {
                continue;
            }
            star_crashes += u32::from(is_star_crash);
            let stop = (start + 50 + random.below(longest)).min(until);
            busy.insert(place, stop);
            schedule.add(start, begin);
            schedule.add(stop, end);
        }
        schedule
    }

    /// A fault: its place, how it begins and ends, and its maximum duration in milliseconds.
    fn fault(&self, random: &mut Random, quiet: Duration) -> (String, Act, Act, u64) {
        let mut hosts = self.hosts.clone();
        let first = hosts.remove(random.below(hosts.len() as u64) as usize);
        let second = hosts.remove(random.below(hosts.len() as u64) as usize);
        let mut pair = [first.clone(), second.clone()];
        pair.sort();
        let link = pair.join("-");
        let mend = Act::Mend(first.clone(), second.clone());
        // Sometimes longer than the lease, than keepalive, and than the stall timeout of a pull.
        let longest = [800, 4_000, 12_000, 40_000][random.below(4) as usize];
        match random.below(10) {
            0 | 1 => (link, Act::Partition(first, second), mend, longest),
            2 | 3 => (link, Act::PartitionOneWay(first, second), mend, longest),
            4 => (link, Act::Hold(first, second), mend, longest),
            5 => {
                let rate = [0.0005, 0.005, 0.05][random.below(3) as usize];
                ("all links".to_owned(), Act::Lose(rate), Act::Lose(0.0), longest / 4)
            }
            6 => {
                let slow = Duration::from_millis(300 + random.below(3_000));
                ("all delays".to_owned(), Act::Delay(slow), Act::Delay(quiet), longest)
            }
            7 | 8 => (first.clone(), Act::Crash(first.clone()), Act::Bounce(first), longest / 2),
            _ => {
                let coordinator = self.hosts[0].clone();
                (coordinator.clone(), Act::Crash(coordinator.clone()), Act::Bounce(coordinator), longest / 2)
            }
        }
    }

    fn add(&mut self, at: u64, act: Act) {
        let number = self.acts.len();
        self.acts.insert((at, number), act);
    }

    /// Executes what is due. Returns the hosts that crashed.
    pub(crate) fn advance(&mut self, sim: &mut Sim<'_>, log: impl Fn(&str)) -> Vec<String> {
        let mut crashed = Vec::new();
        let now = sim.elapsed().as_millis() as u64;
        while let Some(entry) = self.acts.first_entry().filter(|entry| entry.key().0 <= now) {
            let act = entry.remove();
            log(&format!("{act:?}"));
            act.apply(sim);
            if let Act::Crash(host) = act {
                crashed.push(host);
            }
        }
        crashed
    }

    /// Repairs everything and starts the hosts that are down.
    pub(crate) fn heal(&mut self, sim: &mut Sim<'_>) {
        self.acts.clear();
        sim.set_fail_rate(0.0);
        sim.set_max_message_latency(self.delay);
        for (index, host) in self.hosts.iter().enumerate() {
            for other in &self.hosts[..index] {
                sim.release(host.as_str(), other.as_str());
            }
            if !sim.is_host_running(host.as_str()) {
                sim.bounce(host.as_str());
            }
        }
    }
}

impl Act {
    fn apply(&self, sim: &mut Sim<'_>) {
        match self {
            Self::Partition(one, other) => sim.partition(one.as_str(), other.as_str()),
            Self::PartitionOneWay(from, to) => sim.partition_oneway(from.as_str(), to.as_str()),
            Self::Hold(one, other) => sim.hold(one.as_str(), other.as_str()),
            // Also repairs a partition: the link works, and held messages are delivered.
            Self::Mend(one, other) => sim.release(one.as_str(), other.as_str()),
            Self::Lose(rate) => sim.set_fail_rate(*rate),
            Self::Delay(longest) => sim.set_max_message_latency(*longest),
            Self::Crash(host) => sim.crash(host.as_str()),
            Self::Bounce(host) => sim.bounce(host.as_str()),
        }
    }
}
