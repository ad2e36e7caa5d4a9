//! Completion in bash: the script of `orbit completions bash`, with a real grid.

use std::process::Stdio;
use std::time::Duration;

use orbit_tests::deadline::within;
use orbit_tests::grid::Grid;
use orbit_tests::programs::program;
use orbit_tests::tree::plant_files;
use tokio::process::Command;

/// Loads the script, and does what readline does at a Tab: divides the line at blanks, colons and equals signs, and
/// calls the function. Prints the answers, one per line.
const AT_TAB: &str = r#"
source <(orbit completions bash)
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=$2 COMP_WORDS=()
COMP_WORDBREAKS=$' \t\n"\'@><=;|&(:'
rest=$COMP_LINE
while [[ $rest =~ ^[[:blank:]]*([:=]+|([^[:blank:]:=\\]|\\.)+) ]]; do
    COMP_WORDS+=("${BASH_REMATCH[1]}")
    rest=${rest#"${BASH_REMATCH[0]}"}
done
[[ -n $rest ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_orbit orbit "${COMP_WORDS[COMP_CWORD]}" ""
((${#COMPREPLY[@]} == 0)) || printf '%s\n' "${COMPREPLY[@]}"
"#;

/// The `COMP_TYPE` of a Tab; the one below is that of the list at a second Tab.
const TAB: &str = "9";
const LISTING: &str = "63";

async fn at_tab(coordinator: &str, line: &str, kind: &str) -> Vec<String> {
    let orbit = program("orbit");
    let path = std::env::var("PATH").expect("a path");
    let directory = orbit.parent().expect("a directory").display();
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", AT_TAB, "bash", line, kind]).env("ORBIT_COORDINATOR", coordinator);
    bash.env("PATH", format!("{directory}:{path}")).env("HOME", "/nonexistent").env_remove("XDG_CONFIG_HOME");
    bash.stdin(Stdio::null()).kill_on_drop(true);
    let output = within("bash", bash.output()).await.expect("bash is there");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.is_empty(), "{line:?} writes into the line that is typed: {said}");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn bash_completes_what_the_grid_has() {
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let source = grid.root("star-1").join("tree");
    plant_files(&source, 5, 2_000, 3);
    std::fs::create_dir(source.join("a dir")).expect("a directory");
    std::fs::write(source.join("a dir/file"), b"content").expect("a file");
    let client = grid.client();
    let job = client.wait_end(client.create(grid.packed_spec("tree", "star-1", &["star-2"])).await).await;
    let snapshot = job.snapshot_ids.first().cloned().expect("a snapshot");
    let tab = async |line: &str| at_tab(grid.address(), line, TAB).await;

    assert_eq!(tab("orbit job sho").await, ["show"]);
    assert_eq!(tab("orbit star show st").await, ["star-1", "star-2"]);
    assert_eq!(tab("orbit bulletins --star=star-1").await, ["star-1"]);
    assert_eq!(tab("orbit job show ").await, [job.job_id.to_string()]);
    assert_eq!(tab("orbit snapshot show ").await, ["latest", snapshot.as_str()]);
    assert_eq!(tab(&format!("orbit snapshot cat {} a", &snapshot[..8])).await, [r"a\ dir/"]);
    assert_eq!(tab(&format!(r"orbit snapshot cat {snapshot} a\ dir/")).await, [r"a\ dir/file"]);

    // A place: the Star, its roots, and their content, since these Stars are on this machine. Bash keeps `star-1:`
    // unchanged.
    assert_eq!(tab("orbit job create star-").await, ["star-1:", "star-2:"]);
    let root = grid.root("star-1").display().to_string();
    assert_eq!(tab("orbit job create star-1:").await, [format!("{root}/")]);
    assert_eq!(tab(&format!("orbit job create star-1:{root}/tr")).await, [format!("{root}/tree/")]);
    assert_eq!(
        tab(&format!("orbit job create star-1:{root}/tree/a")).await,
        [format!(r"{root}/tree/a\ dir/")]
    );
    assert!(tab("orbit job create star-1:/elsewhere/").await.is_empty());

    // The list at a second Tab describes each value.
    let job = client.wait_end(client.create(grid.copy_spec("tree", "star-1", &["star-2"])).await).await;
    let shown = at_tab(grid.address(), "orbit job show ", LISTING).await;
    assert!(shown[0].starts_with(&format!("{}  (completed, star-1:", job.job_id)), "{shown:?}");
}

#[tokio::test]
async fn a_local_copy_completes_local_paths() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("photos")).expect("a directory");
    let base = directory.path().display();
    let found = at_tab("http://127.0.0.1:1", &format!("orbit copy {base}/ph"), TAB).await;
    assert_eq!(found, [format!("{base}/photos/")]);
}

#[tokio::test]
async fn completion_does_not_wait_for_a_silent_coordinator_and_prints_nothing() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", silent.local_addr().expect("an address"));
    let _ = program("orbit");
    // Flags are offered if no Star is known.
    let is_flag = |value: &String| value.starts_with('-');
    let asked = at_tab(&address, "orbit star show ", TAB);
    let answer = tokio::time::timeout(Duration::from_secs(20), asked).await.expect("it does not wait");
    assert!(answer.iter().all(is_flag), "{answer:?}");
    assert!(at_tab(&address, "orbit star show s", TAB).await.is_empty());
    assert!(at_tab("http://127.0.0.1:1", "orbit job show 1", TAB).await.is_empty());
    assert!(at_tab("no address at all", "orbit job show 1", TAB).await.is_empty());
}

#[tokio::test]
async fn every_shell_gets_a_script() {
    for (shell, part) in [
        ("bash", "complete -o nosort -F _orbit orbit"),
        ("zsh", "#compdef orbit"),
        ("fish", "complete --keep-order --exclusive --command orbit"),
        ("elvish", "orbit"),
        ("powershell", "orbit"),
    ] {
        let mut orbit = Command::new(program("orbit"));
        orbit.args(["completions", shell]).kill_on_drop(true);
        let output = within("orbit completions", orbit.output()).await.expect("orbit starts");
        let script = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && script.contains(part) && script.contains("ORBIT_COMPLETE"),
            "{script}"
        );
        assert!(!script.contains("/debug/"), "{shell}: it calls the program by its name: {script}");
    }
}
