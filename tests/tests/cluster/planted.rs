//! No shipped program contains the injected faults of `shared/src/plant.rs`: neither those of the package nor those of
//! the image, and no command that builds programs enables them.

use std::path::Path;
use std::process::Command;

use orbit_tests::cluster::{Cluster, run, workspace};

/// The programs that are shipped.
const PROGRAMS: [&str; 3] = ["orbit-coordinator", "orbit-star", "orbit"];

/// The marker of a program that was built with injected faults. It is assembled here, so that this test contains it
/// only if it was built with them itself.
fn marker() -> String {
    ["orbit grid:", "built", "with", "planted", "mistakes"].join(" ")
}

fn is_planted(program: &Path) -> bool {
    let mut search = Command::new("grep");
    search.args(["--text", "--quiet", "--fixed-strings", &marker()]).arg(program);
    let status = search.status().expect("grep starts");
    assert!(status.code().is_some_and(|code| code <= 1), "grep {}: {status}", program.display());
    status.success()
}

/// Fails if any of the three programs in a directory was built with injected faults.
pub(crate) fn assert_none_is_planted(directory: &Path) {
    let own = std::env::current_exe().expect("a process knows its program");
    assert!(
        is_planted(&own),
        "tests are built with planted mistakes, so their programs must show the marker"
    );
    for program in PROGRAMS {
        assert!(!is_planted(&directory.join(program)), "{program} is shipped with planted mistakes");
    }
}

/// As [`assert_none_is_planted`], for the programs of a cluster's image, which also has the notices of third-party
/// crates.
pub(crate) fn assert_image_is_fit_to_ship(cluster: &Cluster) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let container = cluster.container("coordinator");
    for program in PROGRAMS {
        let mut copy = Command::new("docker");
        run(copy.arg("cp").arg(format!("{container}:/usr/bin/{program}")).arg(directory.path()));
    }
    assert_none_is_planted(directory.path());
    let mut copy = Command::new("docker");
    let notices = format!("{container}:/usr/share/doc/orbit-grid/THIRD-PARTY-NOTICES.txt");
    run(copy.arg("cp").arg(notices).arg(directory.path()));
}

/// Whichever members and programs are built, the feature is off; only a build of tests enables it.
#[test]
fn no_build_of_programs_asks_for_planted_mistakes() {
    let features = |edges: &str| {
        let mut tree = Command::new(env!("CARGO"));
        tree.current_dir(workspace()).args(["tree", "--workspace", "--locked", "--prefix", "none"]);
        run(tree.args(["--edges", edges, "--format", "{p} {f}"]))
    };
    assert!(features("normal,build,dev").contains("planted-bugs"));
    assert!(!features("normal,build").contains("planted-bugs"));
}
