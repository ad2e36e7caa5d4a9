//! Which users of this machine a server without TLS serves, and which a client trusts.
//!
//! Every user of a machine can reach its loopback address. So a server asks the kernel which user owns a connection,
//! once, when it accepts it. It serves its own user, root, and the users in `--local-users`. Every user can also listen
//! on a free port. So a client asks the same about the server before it sends anything. It also trusts the users that
//! the package's services run as. Connections from other machines are not affected.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use tokio::time::Instant;

use crate::plain_stream::PlainStream;
use crate::socket_owner;

const ROOT: u32 = 0;
/// The users that the package's services run as. Only the system creates users with numbers below [`SYSTEM_USERS_END`].
const SERVICE_USERS: [&str; 2] = ["orbit-coordinator", "orbit"];
const SYSTEM_USERS_END: u32 = 1000;
/// Timeout for the server's acceptance of a connection, before which the kernel knows no owner. It is below the connect
/// timeout of clients, so that they show this reason.
const ACCEPTED_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause between two questions to the kernel: the first one and the longest one.
const ACCEPTED_PAUSE: Duration = Duration::from_micros(200);
const ACCEPTED_PAUSE_MAX: Duration = Duration::from_millis(5);
/// How long the result of a lookup of a user's groups is kept.
const MEMBERSHIP_KEPT: Duration = Duration::from_secs(30);
/// Maximum number of users whose membership is kept. When it is reached, all are looked up again.
const MEMBERSHIPS_MAX: usize = 256;

/// One value of `--local-users`: the name or number of a user, or `@` and that of a group. It is looked up when a
/// server starts, so that settings can be checked on another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalUser {
    /// A user.
    User(String),
    /// The members of a group.
    Group(String),
}

/// Why a value of `--local-users` cannot be used. Its text is one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocalUserError {
    /// The name is empty.
    #[error("a name is missing; write a user's name or number, or @GROUP")]
    Empty,
    /// The system has no such user.
    #[error("--local-users: this machine has no user {0:?}; write a user's name or number, or @GROUP")]
    UnknownUser(String),
    /// The system has no such group.
    #[error(
        "--local-users: this machine has no group {0:?}; write @ and a group's name or number, or a user's name"
    )]
    UnknownGroup(String),
    /// The lookup failed.
    #[error("--local-users: {name:?} cannot be looked up: {problem}")]
    Lookup {
        /// The name.
        name: String,
        /// The error.
        problem: String,
    },
}

impl FromStr for LocalUser {
    type Err = LocalUserError;

    fn from_str(text: &str) -> Result<Self, LocalUserError> {
        match text.strip_prefix('@') {
            Some("") => Err(LocalUserError::Empty),
            Some(group) => Ok(Self::Group(group.to_owned())),
            None if text.is_empty() => Err(LocalUserError::Empty),
            None => Ok(Self::User(text.to_owned())),
        }
    }
}

/// Numbers of users and groups.
#[derive(Debug, Clone, Default)]
struct Numbers {
    users: BTreeSet<u32>,
    groups: BTreeSet<u32>,
}

impl Numbers {
    fn of(named: &[LocalUser]) -> Result<Self, LocalUserError> {
        let mut numbers = Self::default();
        for one in named {
            match one {
                LocalUser::User(name) => numbers.users.insert(user_number(name)?),
                LocalUser::Group(name) => numbers.groups.insert(group_number(name)?),
            };
        }
        Ok(numbers)
    }
}

fn user_number(name: &str) -> Result<u32, LocalUserError> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let user = User::from_name(name).map_err(|error| lookup(name, error))?;
    user.map(|user| user.uid.as_raw()).ok_or_else(|| LocalUserError::UnknownUser(name.to_owned()))
}

fn group_number(name: &str) -> Result<u32, LocalUserError> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let group = Group::from_name(name).map_err(|error| lookup(name, error))?;
    group.map(|group| group.gid.as_raw()).ok_or_else(|| LocalUserError::UnknownGroup(name.to_owned()))
}

fn lookup(name: &str, error: nix::Error) -> LocalUserError {
    let problem = std::io::Error::from(error).to_string();
    LocalUserError::Lookup { name: name.to_owned(), problem }
}

/// Why a connection within this machine is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stranger {
    /// It belongs to another user.
    User(u32),
    /// The kernel does not know its owner.
    Unknown,
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(uid) => f.write_str(&name_of(*uid)),
            Self::Unknown => f.write_str("a user that the kernel does not name"),
        }
    }
}

fn name_of(uid: u32) -> String {
    user_name(uid).map_or_else(|| format!("user {uid}"), |name| format!("user {name} ({uid})"))
}

/// The name of a user of this machine, if the system has one for it.
pub fn user_name(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}

/// The users of this machine that a server serves.
#[derive(Debug)]
pub struct LocalUsers {
    own: u32,
    named: Vec<LocalUser>,
    numbers: OnceLock<Numbers>,
    memberships: Mutex<BTreeMap<u32, (Instant, bool)>>,
}

impl Default for LocalUsers {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl LocalUsers {
    /// Serves the user of this process, root, and these users.
    pub fn new(named: Vec<LocalUser>) -> Self {
        let own = rustix::process::geteuid().as_raw();
        Self { own, named, numbers: OnceLock::new(), memberships: Mutex::default() }
    }

    /// Looks up the named users and groups. A server does that before it listens.
    ///
    /// # Errors
    /// The system does not know a user or a group.
    pub fn resolve(&self) -> Result<(), LocalUserError> {
        let numbers = Numbers::of(&self.named)?;
        self.numbers.get_or_init(|| numbers);
        Ok(())
    }

    /// The named users and groups. There are none before [`LocalUsers::resolve`].
    fn numbers(&self) -> Numbers {
        self.numbers.get().cloned().unwrap_or_default()
    }

    /// Decides on a connection that was accepted. A connection within this machine is refused if it belongs to a user
    /// that is not served. Returns the number of the user, for a connection within this machine.
    ///
    /// # Errors
    /// The connection is to be refused.
    pub async fn admit(&self, stream: &PlainStream) -> Result<Option<u32>, Stranger> {
        let Some(uid) = owner(stream)? else { return Ok(None) };
        let uid = uid.ok_or(Stranger::Unknown)?;
        match self.is_named(uid).await {
            true => Ok(Some(uid)),
            false => Err(Stranger::User(uid)),
        }
    }

    /// Decides on a connection that this process made. A connection within this machine is refused if the server runs
    /// as a user that is not trusted.
    ///
    /// # Errors
    /// Nothing may be sent on the connection.
    pub(crate) async fn trust(&self, stream: &PlainStream) -> Result<(), Stranger> {
        let begun = Instant::now();
        let mut pause = ACCEPTED_PAUSE;
        let uid = loop {
            match owner(stream)? {
                None => return Ok(()),
                Some(Some(uid)) => break uid,
                Some(None) if stream.is_ended() || begun.elapsed() >= ACCEPTED_TIMEOUT => {
                    return Err(Stranger::Unknown);
                }
                Some(None) => {}
            }
            // There is no event for the server's acceptance, so this polls.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(ACCEPTED_PAUSE_MAX);
        };
        match self.is_named(uid).await || is_service(uid).await {
            true => Ok(()),
            false => Err(Stranger::User(uid)),
        }
    }

    async fn is_named(&self, uid: u32) -> bool {
        let is_named = [self.own, ROOT].contains(&uid) || self.numbers().users.contains(&uid);
        is_named || self.has_member(uid).await
    }

    async fn has_member(&self, uid: u32) -> bool {
        let groups = self.numbers().groups;
        if groups.is_empty() {
            return false;
        }
        let now = Instant::now();
        let known = self.memberships().get(&uid).copied();
        if let Some((at, is_member)) = known
            && now.duration_since(at) < MEMBERSHIP_KEPT
        {
            return is_member;
        }
        // A lookup in a directory service can be slow.
        let asked = tokio::task::spawn_blocking(move || is_member(uid, &groups));
        let is_member = asked.await.unwrap_or(false);
        let mut memberships = self.memberships();
        if memberships.len() >= MEMBERSHIPS_MAX {
            memberships.clear();
        }
        memberships.insert(uid, (now, is_member));
        is_member
    }

    fn memberships(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, (Instant, bool)>> {
        self.memberships.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a refused user why, and what an operator can do.
    pub fn refusal(&self, stranger: Stranger) -> String {
        format!(
            "{} and root on this machine are served here without TLS, and the users that --local-users names; this connection \
             is of {stranger}. Name the user with --local-users, or connect with TLS",
            name_of(self.own)
        )
    }

    /// Says why nothing is sent to a server, and what can be done.
    pub(crate) fn distrust(&self, address: &str, stranger: Stranger) -> String {
        match stranger {
            Stranger::User(_) => format!(
                "{address} is held by {stranger}, and without TLS only {}, root and the users of the packaged services are \
                 trusted on this machine; see with `ss -ltnp` (`ss -lxp` for a Unix socket) what listens there, and name its user with --local-users if it \
                 is the right one",
                name_of(self.own)
            ),
            Stranger::Unknown => format!(
                "{address}: the kernel does not say within {ACCEPTED_TIMEOUT:?} which user listens there, so it is not \
                 trusted without TLS; the server may be overloaded or behind a translation of addresses, for which TLS or a \
                 Unix socket helps"
            ),
        }
    }
}

/// The user at the other end of a connection within this machine; `None` inside if the kernel does not know it (yet), `None` for a
/// connection with another machine.
fn owner(stream: &PlainStream) -> Result<Option<Option<u32>>, Stranger> {
    let unknown = |error: std::io::Error| {
        tracing::warn!(%error, "the kernel cannot be asked whose connection it is; it is refused");
        Stranger::Unknown
    };
    match stream {
        PlainStream::Unix(stream) => stream.peer_cred().map(|peer| Some(Some(peer.uid()))).map_err(unknown),
        PlainStream::Tcp(stream) => match socket_owner::is_local(stream) {
            Ok(false) => Ok(None),
            Ok(true) => socket_owner::of(stream).map(Some).map_err(unknown),
            // The connection has ended.
            Err(_) => Err(Stranger::Unknown),
        },
    }
}

async fn is_service(uid: u32) -> bool {
    if uid >= SYSTEM_USERS_END {
        return false;
    }
    // A lookup in a directory service can be slow.
    let named = tokio::task::spawn_blocking(move || user_name(uid)).await;
    named.ok().flatten().is_some_and(|name| SERVICE_USERS.contains(&name.as_str()))
}

fn is_member(uid: u32, groups: &BTreeSet<u32>) -> bool {
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else { return false };
    let Ok(name) = std::ffi::CString::new(user.name) else { return false };
    let held = getgrouplist(&name, Gid::from_raw(user.gid.as_raw())).unwrap_or_default();
    held.iter().any(|gid| groups.contains(&gid.as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_given_by_name_or_number() {
        let numbers = |named: &[&str]| {
            let named: Result<Vec<LocalUser>, _> = named.iter().map(|name| name.parse()).collect();
            named.and_then(|named| Numbers::of(&named)).map(|numbers| (numbers.users, numbers.groups))
        };
        let found = numbers(&["root", "4711", "@root", "@4712"]).unwrap();
        assert_eq!(found, (BTreeSet::from([0, 4711]), BTreeSet::from([0, 4712])));
        let unknown = numbers(&["no-such-user"]).unwrap_err().to_string();
        assert!(unknown.contains("no-such-user"), "{unknown}");
        for bad in ["@no-such-group", "@", ""] {
            assert!(numbers(&[bad]).is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn the_members_of_a_group_are_those_that_the_system_names() {
        let users = LocalUsers::new(vec![LocalUser::Group("root".to_owned())]);
        users.resolve().unwrap();
        assert!(users.has_member(0).await, "root is in the group root");
        assert!(!users.has_member(u32::MAX - 7).await, "a user that does not exist is in no group");
        assert!(!LocalUsers::default().has_member(0).await, "no group was named");
    }

    #[test]
    fn a_refusal_says_who_is_served_and_what_to_do() {
        let text = LocalUsers::default().refusal(Stranger::User(u32::MAX - 7));
        assert!(text.contains("--local-users") && text.contains(&(u32::MAX - 7).to_string()), "{text}");
    }
}
