//! Who asks for a change. An actor is determined once, where a request comes in, and stays with the task that answers the request, so
//! that whatever is asked of the core on its behalf carries it: no method hands it on.

use orbit_identity::{Identity, PlainPeer, Role, user_name};

/// The caller that asks for a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Actor {
    /// `operator:alice` by certificate, `user:root` as the kernel says, `address:10.0.0.7` without TLS from another machine.
    pub(crate) name: String,
    /// What it may do.
    pub(crate) role: Role,
}

tokio::task_local! {
    static ACTOR: Actor;
}

impl Actor {
    /// The holder of a certificate.
    pub(crate) fn certified(identity: &Identity) -> Self {
        Self { name: identity.actor(), role: identity.role }
    }

    /// A caller without a certificate, with the rights of `role`. Asks the system for the name of a user.
    pub(crate) async fn plain(peer: Option<PlainPeer>, role: Role) -> Self {
        let own = || rustix::process::geteuid().as_raw();
        let user = match peer {
            Some(PlainPeer::Address(address)) => {
                return Self { name: format!("address:{}", address.ip()), role };
            }
            Some(PlainPeer::User(user)) => user,
            // A grid within one process has no other users.
            None => own(),
        };
        // A directory service may be slow to answer.
        let named = tokio::task::spawn_blocking(move || user_name(user)).await;
        let name = named.ok().flatten().unwrap_or_else(|| user.to_string());
        Self { name: format!("user:{name}"), role }
    }

    /// The caller for whom this task works, if there is one.
    pub(crate) fn current() -> Option<Self> {
        ACTOR.try_with(Clone::clone).ok()
    }

    /// Runs something on behalf of this actor.
    pub(crate) async fn act<T>(self, doing: impl Future<Output = T>) -> T {
        ACTOR.scope(self, doing).await
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[tokio::test]
    async fn an_actor_without_a_certificate_is_a_user_or_an_address() {
        let address = SocketAddr::from(([10, 0, 0, 7], 4711));
        let named = |peer| async move { Actor::plain(Some(peer), Role::Operator).await.name };
        assert_eq!(named(PlainPeer::Address(address)).await, "address:10.0.0.7");
        assert_eq!(named(PlainPeer::User(0)).await, "user:root");
        assert_eq!(named(PlainPeer::User(4_000_000_001)).await, "user:4000000001");
        assert!(Actor::plain(None, Role::Operator).await.name.starts_with("user:"));
    }

    #[tokio::test]
    async fn what_is_done_on_behalf_of_somebody_knows_who_it_is() {
        assert_eq!(Actor::current(), None);
        let alice = Actor { name: "operator:alice".to_owned(), role: Role::Operator };
        assert_eq!(alice.clone().act(async { Actor::current() }).await, Some(alice));
        assert_eq!(Actor::current(), None);
    }
}
