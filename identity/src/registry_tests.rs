//! Tests of who is admitted and who is refused.

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::*;

const NOW: i64 = 1_800_000_000;
const HOUR: Duration = Duration::from_secs(3600);

struct Machine(KeyPair);

impl Machine {
    fn new() -> Self {
        Self(KeyPair::generate().unwrap())
    }

    fn request(&self) -> String {
        CertificateParams::default().serialize_request(&self.0).unwrap().pem().unwrap()
    }

    fn join(&self, registry: &Registry, token: &str, name: Option<&str>, now: i64) -> Result<Facts, Refused> {
        let name = name.map(|name| name.parse().unwrap());
        let joining = Joining { token: token.to_owned(), request: self.request(), name };
        registry.join(&joining, now).map(|pem| facts(&pem))
    }
}

fn facts(pem: &str) -> Facts {
    Facts::of(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap()
}

fn open(directory: &Path) -> Registry {
    Registry::open(directory, HOUR, NOW).unwrap()
}

fn token(registry: &Registry, name: Option<&str>, now: i64) -> String {
    registry
        .authority()
        .create_token(Role::Star, name.map(|name| name.parse().unwrap()), HOUR, now * 1000)
        .unwrap()
        .0
}

#[test]
fn a_token_admits_one_machine_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let registry = open(directory.path());
    let (text, first, second) = (token(&registry, None, NOW), Machine::new(), Machine::new());
    let held = first.join(&registry, &text, Some("alpha"), NOW + 1).unwrap();
    assert_eq!(held.identity.uri(), "orbit://star/alpha");
    assert!(registry.check(&held, NOW + 2).is_ok());
    drop(registry);
    let registry = open(directory.path());
    let refused = second.join(&registry, &text, Some("beta"), NOW + 3);
    assert!(matches!(refused, Err(Refused::TokenUsed)), "{refused:?}");
    // A machine that did not receive the answer asks again with the same key.
    assert_eq!(first.join(&registry, &text, Some("alpha"), NOW + 3).unwrap().identity, held.identity);
}

#[test]
fn a_token_expires_and_is_valid_for_one_grid_and_one_name() {
    let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (registry, other) = (open(directory.path()), open(elsewhere.path()));
    let machine = Machine::new();
    let text = token(&registry, Some("alpha"), NOW);
    assert!(matches!(machine.join(&registry, &text, None, NOW + 3600), Err(Refused::TokenExpired)));
    assert!(matches!(machine.join(&other, &text, None, NOW), Err(Refused::Token(TokenError::Foreign))));
    assert!(matches!(machine.join(&registry, &text, Some("beta"), NOW), Err(Refused::WrongName { .. })));
    let nameless = token(&registry, None, NOW);
    assert!(matches!(machine.join(&registry, &nameless, None, NOW), Err(Refused::NoName)));
    assert_eq!(machine.join(&registry, &text, None, NOW).unwrap().identity.name.as_str(), "alpha");
}

#[test]
fn only_a_token_with_the_name_replaces_an_existing_holder() {
    let directory = tempfile::tempdir().unwrap();
    let registry = open(directory.path());
    let (first, second) = (Machine::new(), Machine::new());
    first.join(&registry, &token(&registry, None, NOW), Some("alpha"), NOW).unwrap();
    let refused = second.join(&registry, &token(&registry, None, NOW), Some("alpha"), NOW);
    assert!(matches!(refused, Err(Refused::NameTaken(_))), "{refused:?}");
    assert!(second.join(&registry, &token(&registry, Some("alpha"), NOW), None, NOW).is_ok());
    // An identity whose certificates have expired does not keep its name.
    assert!(
        Machine::new()
            .join(&registry, &token(&registry, None, NOW + 3599), Some("alpha"), NOW + 3601)
            .is_ok()
    );
}

#[test]
fn a_revoked_identity_is_refused_until_a_new_token_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let registry = open(directory.path());
    let machine = Machine::new();
    let held = machine.join(&registry, &token(&registry, None, NOW), Some("alpha"), NOW).unwrap();
    let renewed = facts(&registry.renew(&held, &machine.request(), NOW + 10).unwrap());
    assert_eq!(renewed.not_after, NOW + 10 + 3600);
    let end = registry.end_of(&held.identity);
    let prepared = token(&registry, None, NOW + 20);
    assert_eq!(registry.revoke(&held.identity, (NOW + 20) * 1000).unwrap(), 2);
    assert!(end.is_cancelled());
    drop(registry);
    let registry = open(directory.path());
    for certificate in [&held, &renewed] {
        assert!(matches!(registry.check(certificate, NOW + 21), Err(Refused::Revoked(_))));
        let again = registry.renew(certificate, &machine.request(), NOW + 21);
        assert!(matches!(again, Err(Refused::Revoked(_))));
    }
    let early = machine.join(&registry, &prepared, Some("alpha"), NOW + 21);
    assert!(matches!(early, Err(Refused::TokenRevoked(_))), "{early:?}");
    let late = token(&registry, None, NOW + 21);
    let again = machine.join(&registry, &late, Some("alpha"), NOW + 22).unwrap();
    assert!(registry.check(&again, NOW + 22).is_ok());
    assert!(registry.list().iter().all(|known| !known.is_revoked && known.serial == again.serial));
}

#[test]
fn a_token_is_used_by_one_identity_and_ends_with_the_operator_who_made_it() {
    let directory = tempfile::tempdir().unwrap();
    let registry = open(directory.path());
    let machine = Machine::new();
    let nameless = token(&registry, None, NOW);
    let alpha = machine.join(&registry, &nameless, Some("alpha"), NOW).unwrap();
    // The same key may ask again, as when the answer was lost, but not for another identity.
    assert!(machine.join(&registry, &nameless, Some("alpha"), NOW + 1).is_ok());
    let second = machine.join(&registry, &nameless, Some("beta"), NOW + 1);
    assert!(matches!(second, Err(Refused::TokenUsed)), "{second:?}");
    registry.revoke(&alpha.identity, (NOW + 2) * 1000).unwrap();
    for name in ["alpha", "beta"] {
        let again = machine.join(&registry, &nameless, Some(name), NOW + 3);
        assert!(matches!(again, Err(Refused::TokenUsed | Refused::TokenRevoked(_))), "{name}: {again:?}");
    }

    let boss = Identity::new(Role::Operator, "boss".parse().unwrap());
    let made_by = |at: i64| {
        let made = (HOUR, at * 1000);
        registry.authority().create_token_by(Some(boss.clone()), Role::Operator, None, made).unwrap().0
    };
    let held = made_by(NOW + 4);
    let own =
        registry.authority().create_token(Role::Operator, Some("boss".parse().unwrap()), HOUR, NOW * 1000);
    Machine::new().join(&registry, &own.unwrap().0, None, NOW + 4).unwrap();
    registry.revoke(&boss, (NOW + 5) * 1000).unwrap();
    let late = Machine::new().join(&registry, &held, Some("friend"), NOW + 6);
    assert!(matches!(late, Err(Refused::TokenMakerRevoked(_))), "{late:?}");
}

#[test]
fn a_certificate_that_the_ledger_does_not_know_is_refused_and_a_renewal_keeps_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let registry = open(directory.path());
    let machine = Machine::new();
    let held = machine.join(&registry, &token(&registry, None, NOW), Some("alpha"), NOW).unwrap();
    assert!(registry.check(&held, NOW + 1).is_ok());
    let forgotten = Facts { serial: "4711".to_owned(), ..held.clone() };
    assert!(matches!(registry.check(&forgotten, NOW + 1), Err(Refused::NotInLedger(_))));
    let thief = registry.renew(&held, &Machine::new().request(), NOW + 1);
    assert!(matches!(thief, Err(Refused::OtherKey(_))), "{thief:?}");
    assert!(registry.renew(&held, &machine.request(), NOW + 1).is_ok());
}

#[test]
fn no_token_admits_a_coordinator_or_is_valid_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let registry = open(directory.path());
    assert!(registry.authority().create_token(Role::Coordinator, None, HOUR, NOW * 1000).is_err());
    assert!(registry.authority().create_token(Role::Star, None, Duration::ZERO, NOW * 1000).is_err());
    assert!(registry.authority().create_token(Role::Star, None, HOUR * 721, NOW * 1000).is_err());
    let stranger = Identity::new(Role::Viewer, "x".parse().unwrap());
    assert!(matches!(registry.revoke(&stranger, NOW * 1000), Err(Refused::Unknown(_))));
    let expired = Facts { identity: stranger, serial: "01".to_owned(), not_before: 0, not_after: NOW };
    assert!(matches!(registry.check(&expired, NOW), Err(Refused::Expired(_))));
}

#[test]
fn open_tokens_are_listed_without_their_secret_and_can_be_cancelled() {
    let directory = tempfile::tempdir().unwrap();
    let registry = open(directory.path());
    let boss = Identity::new(Role::Operator, "boss".parse().unwrap());
    let authority = registry.authority();
    let (used, _) = authority.create_token(Role::Star, None, HOUR, NOW * 1000).unwrap();
    let (cancelled, first) = authority.create_token(Role::Viewer, None, HOUR, NOW * 1000).unwrap();
    let by_boss = authority.create_token_by(Some(boss.clone()), Role::Viewer, None, (HOUR, NOW * 1000));
    let (_, second) = by_boss.unwrap();
    let machine = Machine::new();
    machine.join(&registry, &used, Some("alpha"), NOW + 1).unwrap();
    let own = authority.create_token(Role::Operator, Some(boss.name.clone()), HOUR, NOW * 1000).unwrap().0;
    Machine::new().join(&registry, &own, None, NOW + 1).unwrap();

    let ids = |now: i64| registry.tokens(now).unwrap().into_iter().map(|token| token.id).collect::<Vec<_>>();
    let mut expected = [first.id.clone(), second.id];
    expected.sort();
    assert_eq!(ids(NOW + 2), expected);
    assert!(ids(NOW + 3600).is_empty(), "they have ended");
    let kept = std::fs::read_to_string(directory.path().join("tokens").join(format!("{}.json", first.id)));
    assert!(!kept.unwrap().contains(cancelled.trim_start_matches("orbit-join-")));

    registry.revoke_token(&first.id).unwrap();
    let refused = Machine::new().join(&registry, &cancelled, Some("vera"), NOW + 2);
    assert!(matches!(refused, Err(Refused::TokenEnded)), "{refused:?}");
    assert!(matches!(registry.revoke_token(&first.id), Err(Refused::UnknownToken(_))));
    let spent = crate::token::id_of(&used).unwrap();
    let refused = registry.revoke_token(&spent);
    assert!(matches!(refused, Err(Refused::TokenSpent { .. })), "{refused:?}");
    registry.revoke(&boss, (NOW + 3) * 1000).unwrap();
    assert!(ids(NOW + 4).is_empty(), "its maker was revoked");
    // A cancelled token stays cancelled.
    drop(registry);
    let refused = Machine::new().join(&open(directory.path()), &cancelled, Some("vera"), NOW + 2);
    assert!(matches!(refused, Err(Refused::TokenEnded)), "{refused:?}");
}
