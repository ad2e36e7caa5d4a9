//! The operator's rules for the priority of files decide the order of a job: by names, and by the first bytes.

use orbit_proto::v1;
use orbit_tests::grid::{Grid, is_ready};
use orbit_tests::programs::program;
use tokio::process::Command;

const RULES: &str = r#"
[[rule]]
globs = ["*.first"]
priority = "critical"

[[rule]]
magic = { hex = "6f72626974", offset = 2 }
priority = "high"

[[rule]]
globs = ["*.toml"]
priority = "low"
"#;

#[tokio::test]
async fn rules_by_glob_and_by_first_bytes_order_the_items_of_a_job() {
    let mut grid = Grid::start(&["star-2"]).await;
    let rules = grid.directory().join("rules.toml");
    std::fs::write(&rules, RULES).expect("the directory is writable");
    let mut command = grid.star_command("star-1");
    command.arg("--semantic-rules").arg(&rules);
    grid.launch_star("star-1", command).await;
    let client = grid.client();
    let star = client.wait_star("star-1", "receives work", is_ready).await;
    assert_eq!(
        star.semantic_rules,
        ["critical: *.first", "high: has bytes 6f72626974 at 2", "low: *.toml"],
        "an operator sees the rules that apply"
    );

    let tree = grid.root("star-1").join("tree");
    std::fs::create_dir_all(&tree).expect("a directory");
    let files = [("a.toml", "x"), ("b", "plain"), ("c", "--orbit"), ("d.first", "x"), ("e", "orbit")];
    for (name, content) in files {
        std::fs::write(tree.join(name), content).expect("a file");
    }
    // With one item at a time, they are stored in the order of their keys.
    client.limit_guard("star-2", 1).await;
    let spec = v1::JobSpec {
        prioritizers: vec![v1::Prioritizer::Semantic.into()],
        ..grid.copy_spec("tree", "star-1", &["star-2"])
    };
    let job_id = client.create(spec).await;
    let job = client.wait_end(job_id).await;
    assert_eq!(job.state(), v1::JobState::Completed, "{job:#?}");
    let mut stored = client.events_of(job_id, v1::ProvenanceType::FileCompleted).await;
    stored.sort_by_key(|event| event.event_id);
    let order: Vec<_> = stored
        .iter()
        .filter_map(|event| event.source.rsplit('/').next())
        .filter(|name| *name != "tree")
        .collect();
    assert_eq!(order, ["d.first", "c", "b", "e", "a.toml"]);
}

#[tokio::test]
async fn a_bad_file_of_rules_ends_the_start_with_its_line() {
    let grid = Grid::start(&[]).await;
    let rules = grid.directory().join("rules.toml");
    std::fs::write(&rules, "[[rule]]\nglobs = [\"a\"]\npriority = \"urgent\"\n").expect("writable");
    let mut command = Command::new(program("orbit-star"));
    command.args(["--star-id", "star-1", "--coordinator", &format!("http://{}", grid.address())]);
    command.args(["--listen", "127.0.0.1:0"]).arg("--semantic-rules").arg(&rules);
    command.arg("--root").arg(grid.directory()).arg("--vault").arg(grid.vault("star-1"));
    let output = command.output().await.expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        said.contains("--semantic-rules") && said.contains("line 3") && said.contains("urgent"),
        "{said}"
    );
}
