//! Checks that the commands of the README compile each crate once: the same features are chosen for the programs and for the
//! tests.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use super::root;

/// The features of each crate in a build of the workspace. A crate can have several sets, of the host and of the target.
fn features(edges: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut tree = Command::new(env!("CARGO"));
    tree.current_dir(root()).args(["tree", "--workspace", "--locked", "--prefix", "none"]);
    let output = tree.args(["--edges", edges, "--format", "{p}|{f}"]).output().expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut features: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Some((package, set)) = line.trim_end_matches(" (*)").split_once('|') else { continue };
        features.entry(package.to_owned()).or_default().insert(set.to_owned());
    }
    features
}

/// Otherwise `cargo build` and `cargo test` would compile hundreds of crates twice, which takes minutes.
#[test]
fn programs_and_tests_need_the_same_features_of_every_crate() {
    let (programs, tests) = (features("normal"), features("normal,dev"));
    let differ = |(package, sets): &(&String, &BTreeSet<String>)| tests.get(*package) != Some(*sets);
    let differences: Vec<_> = programs.iter().filter(differ).map(|(package, _)| package.as_str()).collect();
    // Its tests are built with planted mistakes, which no program may contain.
    let [only] = differences.as_slice() else { panic!("the features differ of {differences:#?}") };
    assert!(only.starts_with("orbit-shared "), "the features differ of {only}");
}
