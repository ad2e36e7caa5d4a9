//! The files of the grid itself: private regardless of the umask, and out of reach of every job.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use orbit_proto::v1;
use orbit_tests::grid::{Grid, is_ready};
use orbit_tests::mount::BoundMount;
use orbit_tests::tree::{differences, plant_files};
use rustix::process::Signal;
use tokio::process::Command;

/// The same command in a process with umask 0.
fn carefree(command: &Command) -> Command {
    let command = command.as_std();
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"umask 000; exec "$0" "$@""#]).arg(command.get_program()).args(command.get_args());
    shell
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("it is there").permissions().mode() & 0o777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the test owns it");
}

/// All files below a directory, including itself, that others can access.
fn open_to_others(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        (mode(directory) & 0o077 != 0).then(|| directory.to_owned()).into_iter().collect();
    if !directory.is_dir() {
        return found;
    }
    for entry in fs::read_dir(directory).expect("it can be listed") {
        found.extend(open_to_others(&entry.expect("it can be listed").path()));
    }
    found
}

async fn restart(grid: &mut Grid, star: &str) {
    grid.coordinator().signal(Signal::TERM);
    grid.coordinator().ended().await;
    assert!(grid.try_restart_coordinator(|command| carefree(&command)).await);
    let command = carefree(&grid.star_command(star));
    grid.launch_star(star, command).await;
    grid.client().wait_star(star, "receives work", is_ready).await;
}

#[tokio::test]
async fn files_of_the_programs_are_private_whatever_the_umask() {
    let mut grid = Grid::start(&[]).await;
    restart(&mut grid, "star-1").await;
    let tree = grid.root("star-1").join("tree");
    plant_files(&tree, 20, 5000, 1);
    chmod(&tree, 0o751);
    let client = grid.client();
    let packed = client.create(grid.packed_spec("tree", "star-1", &["star-1"])).await;
    assert_eq!(client.wait_end(packed).await.state(), v1::JobState::Completed);
    let mut spec = grid.copy_spec("tree", "star-1", &["star-1"]);
    spec.destinations = vec![grid.place("star-1", "above/copy")];
    let copied = client.create(spec).await;
    assert_eq!(client.wait_end(copied).await.state(), v1::JobState::Completed);
    let (data, vault) = (grid.data_directory(), grid.vault("star-1"));
    assert_eq!(open_to_others(&data), Vec::<PathBuf>::new());
    assert_eq!(open_to_others(&vault), Vec::<PathBuf>::new());
    // A job's tree has the modes of its source, and the directories above it those of the caller's umask.
    let copy = grid.root("star-1").join("above/copy");
    assert_eq!(differences(&tree, &copy), Vec::<String>::new());
    assert_eq!([mode(copy.parent().expect("it has one")), mode(&copy)], [0o777, 0o751]);

    // What an earlier version or an operator left accessible is made private at the next start, which logs it.
    for directory in [&data, &vault] {
        chmod(directory, 0o755);
        for entry in fs::read_dir(directory).expect("it can be listed") {
            let path = entry.expect("it can be listed").path();
            chmod(&path, if path.is_dir() { 0o755 } else { 0o644 });
        }
    }
    grid.star("star-1").kill().await;
    restart(&mut grid, "star-1").await;
    assert_eq!(open_to_others(&data), Vec::<PathBuf>::new());
    assert_eq!(open_to_others(&vault), Vec::<PathBuf>::new());
    for log in [grid.coordinator().errors(), grid.star("star-1").errors()] {
        assert!(log.contains("could be used by other users"), "{log}");
    }
}

#[tokio::test]
async fn no_job_reads_or_writes_files_of_the_grid_itself() {
    let mut grid = Grid::start(&["star-2"]).await;
    // All files of this grid are below the root of this Star: its vault, another one, and the coordinator's data.
    let above = grid.directory().to_owned();
    let mut command = grid.star_command("star-1");
    command.arg("--root").arg(&above);
    grid.launch_star("star-1", command).await;
    let client = grid.client();
    client.wait_star("star-1", "receives work", is_ready).await;
    grid.star("star-1").says("contains the vault").await;
    plant_files(&grid.root("star-1").join("tree"), 5, 1000, 1);

    let place = |path: &Path| v1::Location {
        star_id: "star-1".to_owned(),
        path: path.to_str().expect("a path of text").to_owned(),
        ..v1::Location::default()
    };
    let spec = |source: v1::Location, destination: v1::Location| v1::JobSpec {
        source: Some(source),
        destinations: vec![destination],
        // The destination is in the source too.
        exclude: vec!["/star-2/data".to_owned()],
        ..v1::JobSpec::default()
    };
    let all = client.create(spec(place(&above), grid.place("star-2", "all"))).await;
    assert_eq!(client.wait_end(all).await.state(), v1::JobState::Completed);
    let copy = grid.root("star-2").join("all");
    assert!(copy.join("star-1/data/tree/d0000/f000004").is_file());
    for own in ["coordinator", "star-1/vault", "star-2/vault"] {
        assert!(above.join(own).is_dir() && !copy.join(own).exists(), "{own}");
    }

    let vault = grid.vault("star-1");
    let before = fs::read(vault.join("identity")).expect("a vault has an identity");
    std::os::unix::fs::symlink(&vault, grid.root("star-1").join("link")).expect("a link can be made");
    let data = grid.data_directory();
    for source in [
        vault.clone(),
        vault.join("packed"),
        vault.join("identity"),
        data.join("provenance"),
        data.join("magnetar.redb"),
    ] {
        let job = client.create(spec(place(&source), grid.place("star-2", "stolen"))).await;
        let ended = client.wait_end(job).await;
        assert_eq!(ended.state(), v1::JobState::Failed, "{source:?}");
        assert!(ended.state_reason.contains("belongs to Orbit Grid"), "{source:?}: {}", ended.state_reason);
    }
    assert!(!grid.root("star-2").join("stolen").exists());
    for destination in [vault.clone(), vault.join("packed/new"), data.join("identity")] {
        let tree = grid.place("star-1", "tree");
        let job = client.create(spec(tree, place(&destination))).await;
        let ended = client.wait_end(job).await;
        assert_ne!(ended.state(), v1::JobState::Completed, "{destination:?}");
    }
    assert_eq!(fs::read(vault.join("identity")).expect("a vault has an identity"), before);
    assert!(
        !vault.join("packed/new").exists()
            && !vault.join("d0000").exists()
            && !data.join("identity").exists()
    );
}

#[tokio::test]
async fn files_of_the_grid_are_recognized_through_bind_mounts_and_links_and_above_a_root() {
    let mut grid = Grid::start(&["star-1", "star-2"]).await;
    let (root, packed) = (grid.root("star-1"), grid.vault("star-1").join("packed"));
    grid.star("star-1").kill().await;
    let settings = grid.directory().join("settings.toml");
    fs::write(&settings, "drain-timeout = \"20s\"\n").expect("a grid's directory is writable");
    fs::write(root.join("kept"), "a file of a job").expect("a root is writable");
    fs::hard_link(&settings, root.join("linked.toml")).expect("a file can be linked");
    let _mounts = [
        (packed.clone(), "bound-vault"),
        (grid.data_directory().join("provenance"), "bound-events"),
        (settings.clone(), "bound.toml"),
    ]
    .map(|(from, name)| BoundMount::mount(&from, &root.join(name)));
    let mut command = grid.star_command("star-1");
    command.arg("--config").arg(&settings).arg("--root").arg(&packed);
    grid.launch_star("star-1", command).await;
    grid.star("star-1").says("lies in, a directory of Orbit Grid itself").await;
    let client = grid.client();
    client.wait_star("star-1", "receives work", is_ready).await;

    let place = |star: &str, path: &Path| v1::Location {
        star_id: star.to_owned(),
        path: path.to_str().expect("a path of text").to_owned(),
        ..v1::Location::default()
    };
    let spec = |source: v1::Location, destination: v1::Location| v1::JobSpec {
        source: Some(source),
        destinations: vec![destination],
        ..v1::JobSpec::default()
    };
    let copy = grid.root("star-2").join("all");
    let all = client.create(spec(place("star-1", &root), place("star-2", &copy))).await;
    assert_eq!(client.wait_end(all).await.state(), v1::JobState::Completed);
    let copied: Vec<_> =
        fs::read_dir(&copy).expect("it was made").map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(copied, ["kept"]);
    for source in [packed, root.join("bound-vault"), root.join("bound-events"), root.join("linked.toml")] {
        let job = client.create(spec(place("star-1", &source), place("star-2", &copy.join("stolen")))).await;
        let ended = client.wait_end(job).await;
        assert_eq!(ended.state(), v1::JobState::Failed, "{source:?}");
        assert!(ended.state_reason.contains("belongs to Orbit Grid"), "{source:?}: {}", ended.state_reason);
    }
    let planted = grid.root("star-2").join("planted");
    fs::create_dir(&planted).expect("a root is writable");
    for name in ["linked.toml", "bound.toml"] {
        fs::write(planted.join(name), "root = [\"/\"]\n").expect("a root is writable");
    }
    let job = client.create(spec(place("star-2", &planted), place("star-1", &root))).await;
    assert_eq!(client.wait_end(job).await.state(), v1::JobState::PartiallyCompleted);
    for path in [&settings, &root.join("linked.toml"), &root.join("bound.toml")] {
        let text = fs::read_to_string(path).expect("it is there");
        assert!(text.contains("drain-timeout"), "{path:?}: {text}");
    }
}
