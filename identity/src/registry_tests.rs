//! Who is let in and who is not.

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
fn a_token_lets_one_machine_in_also_after_a_restart() {
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
    // Whoever did not hear the answer asks again with the same key.
    assert_eq!(first.join(&registry, &text, Some("alpha"), NOW + 3).unwrap().identity, held.identity);
}

#[test]
fn a_token_ends_and_is_of_one_grid_and_one_name() {
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
fn only_a_token_with_the_name_takes_the_place_of_somebody() {
    let directory = tempfile::tempdir().unwrap();
    let registry = open(directory.path());
    let (first, second) = (Machine::new(), Machine::new());
    first.join(&registry, &token(&registry, None, NOW), Some("alpha"), NOW).unwrap();
    let refused = second.join(&registry, &token(&registry, None, NOW), Some("alpha"), NOW);
    assert!(matches!(refused, Err(Refused::NameTaken(_))), "{refused:?}");
    assert!(second.join(&registry, &token(&registry, Some("alpha"), NOW), None, NOW).is_ok());
    // What has expired holds no name.
    assert!(
        Machine::new()
            .join(&registry, &token(&registry, None, NOW + 3599), Some("alpha"), NOW + 3601)
            .is_ok()
    );
}

#[test]
fn whoever_is_revoked_stays_out_until_a_new_token_is_made() {
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
fn nobody_is_made_a_coordinator_or_let_in_for_ever() {
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
