//! The hot paths need no more instructions than before: a check for slowdowns that a busy machine does not trigger.
//! callgrind counts the instructions of `hot_paths` of orbit-benches for some items and for twice as many, so that the
//! fixed part cancels out.
//!
//! The counts depend on the compiler and on the processor's features, which decide how content is hashed: valgrind
//! shows every program the same processor on all machines with AVX2. Other kinds of machines have their own counts.

mod counts;

use std::path::Path;
use std::process::Command;

use orbit_tests::programs::optimised_program;

use counts::Counts;

/// The paths, and the smaller number of items of each: enough that the rest of the startup does not matter.
const PATHS: [(&str, u64); 6] =
    [("core", 4096), ("store", 4096), ("log", 4096), ("content", 64), ("messages", 4096), ("keys", 4096)];

/// The function of `hot_paths` whose instructions are counted, including those of its callees.
const COUNTED: &str = "*hot_path_counted*";

#[test]
fn hot_paths_need_as_many_instructions_as_before() {
    let program = optimised_program("orbit-benches", "hot_paths");
    let counted: Counts =
        PATHS.iter().map(|&(path, items)| (path.to_owned(), each(&program, path, items))).collect();
    if std::env::var_os(counts::ACCEPT_VARIABLE).is_some() {
        counts::accept(&machine(), counted);
        return;
    }
    let problems = counts::compare(&counted, &counts::expected(&machine()));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// What distinguishes machines whose counts differ.
fn machine() -> String {
    #[cfg(target_arch = "x86_64")]
    let features = if std::arch::is_x86_feature_detected!("avx2") { " with AVX2" } else { " without AVX2" };
    #[cfg(not(target_arch = "x86_64"))]
    let features = "";
    format!("{}{features}", std::env::consts::ARCH)
}

/// Number of instructions per item.
fn each(program: &Path, path: &str, items: u64) -> u64 {
    let (few, many) = std::thread::scope(|scope| {
        let many = scope.spawn(|| count(program, path, 2 * items));
        (count(program, path, items), many.join().expect("callgrind counts"))
    });
    assert!(few > 0 && many > few, "{path}: {few} instructions for {items} items, {many} for twice as many");
    (many - few) / items
}

/// Number of instructions for all items.
fn count(program: &Path, path: &str, items: u64) -> u64 {
    let mut callgrind = Command::new("valgrind");
    callgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    callgrind.arg(format!("--toggle-collect={COUNTED}")).arg(program);
    let output = callgrind.args(["--path", path, "--items", &items.to_string()]).output();
    let output = output.expect("valgrind starts; scripts/test installs it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{path} under callgrind failed:\n{said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    let number = collected.and_then(|(_, number)| number.trim().parse().ok());
    number.unwrap_or_else(|| panic!("callgrind does not say how much it collected:\n{said}"))
}
