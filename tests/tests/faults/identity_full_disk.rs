//! An authority on a full disk: it admits no machine without a record, forgets nothing, and continues when there is
//! space.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use orbit_identity::{Joining, NewKey, Refused, Registry, Role, now, now_in_milliseconds};
use orbit_tests::mount::SmallDisk;

const DISK_BYTES: u64 = 1024 * 1024;
const HOUR: Duration = Duration::from_secs(60 * 60);
/// More lines than fit into the rest of the ledger's last block.
const ATTEMPTS_MAX: usize = 60;

fn open(place: &Path) -> Registry {
    Registry::open(place, HOUR, now()).expect("an authority opens on a full disk too")
}

fn joining(registry: &Registry, keys: &Path, name: &str) -> Joining {
    let made =
        registry.authority().create_token(Role::Viewer, name.parse().ok(), HOUR, now_in_milliseconds());
    let key = NewKey::prepare(&keys.join(name)).expect("a key is made");
    Joining {
        token: made.expect("there is room for a token").0,
        request: key.request().expect("a request"),
        name: None,
    }
}

fn fill(path: &Path) {
    let mut filler = std::fs::File::create(path).expect("a file is made");
    while filler.write_all(&[1; 4096]).is_ok() {}
}

#[test]
fn a_machine_that_cannot_be_recorded_is_refused_and_can_try_again() {
    let directory = tempfile::tempdir().expect("a directory is made");
    let (place, filler) = (directory.path().join("identity"), directory.path().join("identity/filler"));
    let _disk = SmallDisk::mount(&place, DISK_BYTES);
    // A new file system is writable for all, and keys are refused where others can replace them.
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o700)).expect("a mode can be set");
    let registry = open(&place);
    let names = (0..ATTEMPTS_MAX).map(|number| format!("viewer-{number}"));
    let invited: Vec<_> = names.map(|name| (joining(&registry, directory.path(), &name), name)).collect();
    fill(&filler);
    let (refused, problem) = invited
        .into_iter()
        .find_map(|(joining, name)| match registry.join(&joining, now()) {
            Ok(_) => None,
            Err(error @ Refused::Ledger(_)) => Some((joining, error.to_string())),
            Err(error) => panic!("{name}: {error}"),
        })
        .expect("the disk is full");
    assert!(problem.contains("ledger.jsonl") && problem.contains("room"), "{problem}");
    let before = registry.list();
    drop(registry);
    let registry = open(&place);
    assert_eq!(registry.list(), before, "a line that does not count was left");

    std::fs::remove_file(&filler).expect("the filler goes");
    registry.join(&refused, now()).expect("the token was not used up");
    drop(registry);
    assert_eq!(open(&place).list().len(), before.len() + 1);
}
