//! Names that a file system treats as one: the second fails with a clear message, and the first is not changed. Needs
//! root and exFAT (Debian packages exfat-fuse and exfatprogs); without them the tests do nothing.
#![allow(clippy::unwrap_used, reason = "this is test code, also outside of test functions")]

mod support;

use std::path::Path;

use orbit_shared::session::{FailureCause, ItemResult};
use support::{Mounted, Pair, failure, temporaries};

fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_names_that_are_one_at_the_destination_the_first_is_kept_and_the_second_fails() {
    let pair = Pair::new().await;
    let image = pair.vault.path().join("image");
    let options = ["-t", "exfat-fuse", "-o", "loop"];
    let Some(disk) = Mounted::mount(&pair.to(), &image, &["mkfs.exfat"], &options) else {
        eprintln!("no file system that folds case can be mounted here: nothing was tried");
        return;
    };
    let (from, to) = (pair.from(), disk.path.join("copy"));
    for (path, content) in [("README", "upper"), ("readme", "lower"), ("Docs/a", "A"), ("docs/b", "B")] {
        std::fs::create_dir_all(from.join(path).parent().unwrap()).unwrap();
        std::fs::write(from.join(path), content).unwrap();
    }
    for round in 0..2 {
        let results = pair.copy(&from, &to).await;
        let failed: Vec<_> =
            results.iter().filter(|(_, result)| matches!(result, ItemResult::Failed(_))).collect();
        // One of the two files, and one of the two directories with its content.
        assert_eq!(failed.len(), 3, "{round}: {results:?}");
        for (path, result) in failed {
            let failure = failure(result);
            assert_eq!(failure.cause, FailureCause::InTheWay, "{path:?} {failure:?}");
            assert!(failure.message.contains("takes both for one name"), "{failure:?}");
        }
        let names = names(&to);
        assert_eq!(names.len(), 2, "{names:?}");
        let readme = names.iter().find(|name| name.eq_ignore_ascii_case("readme")).unwrap();
        let content = std::fs::read(to.join(readme)).unwrap();
        assert_eq!(content, std::fs::read(from.join(readme)).unwrap(), "the one that is there is whole");
        let kept = &results[readme.as_bytes()];
        assert!(round == 0 || *kept == ItemResult::Skipped, "it is not copied again: {kept:?}");
        assert!(temporaries(&to).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_file_system_with_a_coarse_clock_a_second_run_copies_nothing() {
    let pair = Pair::new().await;
    let image = pair.vault.path().join("image");
    let options = ["-t", "ntfs-3g", "-o", "loop,umask=022"];
    let Some(disk) = Mounted::mount(&pair.to(), &image, &["mkntfs", "-F", "-q"], &options) else {
        eprintln!("no NTFS can be mounted here (Debian package ntfs-3g): nothing was tried");
        return;
    };
    let (from, to) = (pair.from(), disk.path.join("copy"));
    std::fs::create_dir(from.join("d")).unwrap();
    for number in 0..20 {
        std::fs::write(from.join(format!("d/{number}")), b"content").unwrap();
    }
    for path in ["d/1", "d", ""] {
        support::set_modified(&from.join(path), 1_700_000_000, 123_456_789);
    }
    pair.copy(&from, &to).await;
    for round in 0..2 {
        // The first run probes the file system.
        let results = pair.copy(&from, &to).await;
        let copied: Vec<_> = results.iter().filter(|(_, result)| **result != ItemResult::Skipped).collect();
        assert!(copied.is_empty(), "{round}: {copied:?}");
    }
}
