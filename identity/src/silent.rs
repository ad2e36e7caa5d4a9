//! Places for connections whose peer has not yet identified itself: it has sent nothing, its handshake is not complete,
//! it has no certificate, or the server waits for it to send or to read.
//!
//! Such connections cost their peer nothing, so they must not keep others out. Their number is limited. When all places
//! are taken, the origin that holds the most loses its oldest one to the new connection. If that is the origin of the
//! new connection, the place must have been held for a while first; until then the new connection waits in the system's
//! queue. So a client that floods a port does not push out others behind the same address before they could send
//! anything. The same places also divide other scarce resources, where only an address that holds more than another one
//! loses something to it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Where a connection comes from. Connections from one origin share its places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A host, or an IPv6 network.
    Address(IpAddr),
    /// A user of this machine, by a Unix socket.
    User(u32),
}

impl From<IpAddr> for Origin {
    /// An address stands for one host or network, because the owner of one IPv6 address has 2^64 of them.
    fn from(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::User(uid) => write!(f, "user {uid}"),
        }
    }
}

/// The places. Clones share them.
#[derive(Debug, Clone)]
pub struct Silent {
    places: Arc<Mutex<Places>>,
    /// Notified when a place is given back.
    given_back: Arc<Notify>,
    count_max: usize,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    /// By origin, then by age: the first one is the oldest.
    held: BTreeMap<Origin, BTreeMap<u64, Held>>,
    count: usize,
}

#[derive(Debug)]
struct Held {
    since: Instant,
    lost: CancellationToken,
}

/// One place. Dropping it gives it back.
#[derive(Debug)]
pub struct Place {
    silent: Silent,
    origin: Origin,
    number: u64,
    lost: CancellationToken,
}

impl Silent {
    /// Makes this many places, at least one.
    pub fn new(count_max: usize) -> Self {
        Self { places: Arc::default(), given_back: Arc::default(), count_max: count_max.max(1) }
    }

    /// Takes a place for a connection from this origin, from another connection if none is free.
    pub fn enter(&self, origin: impl Into<Origin>) -> Place {
        self.enter_with(origin, CancellationToken::new())
    }

    /// As [`Silent::enter`]. But if this origin itself would lose a place, waits until that place was held for `grace`.
    pub(crate) async fn enter_in_turn(&self, origin: Origin, grace: Duration) -> Place {
        loop {
            let given_back = self.given_back.notified();
            let wait = {
                let mut places = self.places();
                let wait = match places.count >= self.count_max {
                    true => places.wait_of_own(origin, grace),
                    false => None,
                };
                if wait.is_none() {
                    if places.count >= self.count_max {
                        places.take_oldest();
                    }
                    return self.take(&mut places, origin, CancellationToken::new());
                }
                wait.unwrap_or_default()
            };
            let _ = tokio::time::timeout(wait, given_back).await;
        }
    }

    /// As [`Silent::enter`], for a connection that ends when this token is cancelled.
    pub fn enter_with(&self, origin: impl Into<Origin>, lost: CancellationToken) -> Place {
        let origin = origin.into();
        let mut places = self.places();
        if places.count >= self.count_max {
            places.take_oldest();
        }
        self.take(&mut places, origin, lost)
    }

    /// Takes a place only if one is free, or if another origin holds at least two more than this one.
    pub fn enter_share(&self, origin: impl Into<Origin>, lost: CancellationToken) -> Option<Place> {
        let origin = origin.into();
        let mut places = self.places();
        if places.count >= self.count_max {
            let own = places.held.get(&origin).map_or(0, BTreeMap::len);
            let most = places.held.values().map(BTreeMap::len).max().unwrap_or(0);
            if most < own + 2 {
                return None;
            }
            places.take_oldest();
        }
        Some(self.take(&mut places, origin, lost))
    }

    /// Closes the oldest connection of the origin that holds the most places. Returns whether there was one.
    pub fn shed(&self) -> bool {
        let mut places = self.places();
        let has_any = places.count > 0;
        places.take_oldest();
        has_any
    }

    /// Number of places that are taken.
    pub fn count(&self) -> usize {
        self.places().count
    }

    fn take(&self, places: &mut Places, origin: Origin, lost: CancellationToken) -> Place {
        let number = places.next;
        places.next += 1;
        places.count += 1;
        places
            .held
            .entry(origin)
            .or_default()
            .insert(number, Held { since: Instant::now(), lost: lost.clone() });
        Place { silent: self.clone(), origin, number, lost }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    /// How long the oldest place of this origin must still be held, if this origin is the one that would lose a place.
    fn wait_of_own(&self, origin: Origin, grace: Duration) -> Option<Duration> {
        let own = self.held.get(&origin)?;
        if self.held.values().any(|others| others.len() > own.len()) {
            return None;
        }
        let (_, oldest) = own.first_key_value()?;
        grace.checked_sub(oldest.since.elapsed()).filter(|wait| !wait.is_zero())
    }

    /// Takes the oldest place of the origin that holds the most.
    fn take_oldest(&mut self) {
        let most = self.held.iter().max_by_key(|(_, held)| held.len()).map(|(origin, _)| *origin);
        let Some(origin) = most else { return };
        let oldest = self.held.get(&origin).and_then(|held| held.keys().next().copied());
        if let Some(number) = oldest
            && let Some(lost) = self.remove(origin, number)
        {
            lost.cancel();
        }
    }

    fn remove(&mut self, origin: Origin, number: u64) -> Option<CancellationToken> {
        let held = self.held.get_mut(&origin)?;
        let lost = held.remove(&number)?.lost;
        if held.is_empty() {
            self.held.remove(&origin);
        }
        self.count -= 1;
        Some(lost)
    }
}

impl Place {
    /// Cancelled when the place is given to another connection. This connection must be closed then.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.silent.places().remove(self.origin, self.number);
        self.silent.given_back.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn the_address_with_most_places_loses_its_oldest_to_a_new_connection() {
        let silent = Silent::new(4);
        let honest = silent.enter(address(1));
        let flood: Vec<_> = (0..100).map(|_| silent.enter(address(2))).collect();
        assert!(!honest.lost().is_cancelled(), "one place of another address is left alone");
        let kept = flood.iter().filter(|place| !place.lost().is_cancelled()).count();
        assert_eq!(kept, 3);
        assert!(flood[96].lost().is_cancelled() && !flood[97].lost().is_cancelled(), "the oldest go first");
        let late = silent.enter(address(3));
        assert!(!late.lost().is_cancelled() && flood[97].lost().is_cancelled());
    }

    #[tokio::test]
    async fn an_origin_that_floods_a_port_waits_for_its_own_places_and_others_do_not() {
        let grace = Duration::from_millis(500);
        let begun = Instant::now();
        let (flood, other) = (Origin::from(address(1)), Origin::from(address(2)));
        let silent = Silent::new(4);
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(silent.enter_in_turn(flood, grace).await);
        }
        let next = silent.enter_in_turn(other, grace).await;
        assert!(begun.elapsed() < grace && held[0].lost().is_cancelled(), "another origin takes it at once");
        let late = silent.enter_in_turn(flood, grace).await;
        assert!(begun.elapsed() >= grace && held[1].lost().is_cancelled() && !next.lost().is_cancelled());
        // A place that is given back can be taken at once.
        let begun = Instant::now();
        let (freed, ()) = tokio::join!(silent.enter_in_turn(flood, Duration::from_secs(60)), async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            drop(late);
        });
        assert!(begun.elapsed() < Duration::from_secs(60) && !freed.lost().is_cancelled());
    }

    #[test]
    fn a_share_is_taken_only_from_an_address_that_holds_more() {
        let shares = Silent::new(4);
        let enter = |last| shares.enter_share(address(last), CancellationToken::new());
        let mut held: Vec<_> = (0..4).map(|_| enter(1).expect("a place is free")).collect();
        assert!(enter(1).is_none(), "an address takes nothing from itself");
        let first = enter(2).expect("the other address holds more");
        let second = enter(2).expect("the other address holds more");
        assert!(held[0].lost().is_cancelled() && held[1].lost().is_cancelled());
        assert!(!held[2].lost().is_cancelled() && !first.lost().is_cancelled());
        assert!(enter(2).is_none(), "both hold as many");
        held.truncate(3);
        assert_eq!(shares.count(), 3);
        assert!(!second.lost().is_cancelled() && shares.shed() && shares.count() == 2);
    }

    #[test]
    fn a_place_that_is_given_back_is_free() {
        let silent = Silent::new(2);
        let first = silent.enter(address(1));
        for _ in 0..100 {
            drop(silent.enter(address(1)));
        }
        assert!(!first.lost().is_cancelled());
        drop(first);
        assert_eq!(silent.places().count, 0);
        assert!(silent.places().held.is_empty());
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let silent = Silent::new(3);
        let other = silent.enter("2001:db8:1::1".parse::<IpAddr>().unwrap());
        let first = silent.enter("2001:db8::1".parse::<IpAddr>().unwrap());
        let _second = silent.enter("2001:db8::2".parse::<IpAddr>().unwrap());
        let _third = silent.enter("2001:db8::3".parse::<IpAddr>().unwrap());
        assert!(first.lost().is_cancelled() && !other.lost().is_cancelled());
    }
}
