//! Every type of provenance event is recorded where it happens, and found by its type.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;

use orbit_proto::v1::{self, ProvenanceType};
use orbit_tests::client::Client;
use orbit_tests::deadline::{eventually, within};
use orbit_tests::grid::Grid;
use orbit_tests::mount::PinnedFile;
use orbit_tests::programs::program;
use orbit_tests::tree::plant_files;
use rustix::process::Signal;

use crate::vault_faults::damage;

const FILES: usize = 300;

async fn orbit(grid: &Grid, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(program("orbit"));
    command.args(arguments).arg("--coordinator").arg(format!("http://{}", grid.address()));
    within("orbit to end", command.kill_on_drop(true).output()).await.expect("orbit starts")
}

/// All events, in pages of one hundred.
async fn all_events(client: &Client) -> Vec<v1::ProvenanceEvent> {
    let mut request = v1::ListEventsRequest { page_size: 100, ..v1::ListEventsRequest::default() };
    let mut events = Vec::new();
    loop {
        let page =
            client.provenance().list_events(request.clone()).await.expect("events are listed").into_inner();
        events.extend(page.events);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return events;
        }
    }
}

/// A job of plain files with a FIFO and a file that cannot be replaced at first; then the same once more, with a change.
async fn copy_files(grid: &Grid, client: &Client) -> u64 {
    let tree = grid.root("star-1").join("tree");
    plant_files(&tree, FILES, 2_000, 1);
    std::fs::write(tree.join("large"), noise(4 << 20)).expect("a file can be written");
    rustix::fs::mkfifoat(rustix::fs::CWD, tree.join("fifo"), rustix::fs::Mode::RUSR)
        .expect("a FIFO can be made");
    let blocked = grid.root("star-2").join("tree/d0000/f000000");
    std::fs::create_dir_all(blocked.parent().expect("a parent")).expect("a directory can be made");
    std::fs::write(&blocked, "in the way").expect("a file can be written");
    let pinned = PinnedFile::mount(&blocked);
    let mut spec = grid.copy_spec("tree", "star-1", &["star-2"]);
    let delay = prost_types::Duration { seconds: 0, nanos: 100_000_000 };
    spec.penalty = Some(v1::PenaltyPolicy {
        initial_delay: Some(delay),
        max_delay: Some(delay),
        max_penalties: Some(1000),
        ..v1::PenaltyPolicy::default()
    });
    let job_id = client.create(spec.clone()).await;
    let is_penalized = |job: &v1::Job| job.progress.is_some_and(|progress| progress.items_penalized == 1);
    client.wait_job(job_id, "penalized", is_penalized).await;
    drop(pinned);
    let ended = client.wait_end(job_id).await;
    assert_eq!(ended.state(), v1::JobState::PartiallyCompleted, "the FIFO is a dead letter: {ended:#?}");

    let mut changed = noise(4 << 20);
    changed.splice(1_000_000..1_000_000, [7; 1000]);
    std::fs::write(tree.join("large"), changed).expect("a file can be written");
    client.wait_end(client.create(spec).await).await;
    job_id
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Two snapshots in two vaults, with a renamed file between them, and damage that one heals from the other.
async fn pack_and_rename(grid: &Grid, client: &Client) -> (u64, u64) {
    let tree = grid.root("star-1").join("tree");
    std::fs::remove_file(tree.join("fifo")).expect("a file can be removed");
    let spec = grid.packed_spec("tree", "star-1", &["star-2", "star-3"]);
    let first = client.create(spec.clone()).await;
    assert_eq!(client.wait_end(first).await.state(), v1::JobState::Completed);
    std::fs::rename(tree.join("large"), tree.join("d0000/larger")).expect("a file can be renamed");
    let second = client.create(spec).await;
    assert_eq!(client.wait_end(second).await.state(), v1::JobState::Completed);
    damage(grid, "star-2");
    let scrub = v1::ScrubVaultRequest {
        star_id: "star-2".to_owned(),
        check_all: true,
        ..v1::ScrubVaultRequest::default()
    };
    client.vaults().scrub_vault(scrub).await.expect("a vault can be scrubbed");
    eventually("the chunk to be healed", async || {
        // The newest snapshot that needs the chunk names the job.
        let healed = [
            client.events_of(first, ProvenanceType::ChunkHealed).await,
            client.events_of(second, ProvenanceType::ChunkHealed).await,
        ];
        healed.into_iter().flatten().next()
    })
    .await;
    (first, second)
}

/// A job in whose middle a Star is killed and the coordinator is restarted; it is paused, resumed and then cancelled.
async fn kill_and_restart(grid: &mut Grid, client: &Client) {
    let mut spec = grid.copy_spec("tree", "star-1", &["star-3"]);
    spec.max_bytes_per_second = 50_000;
    let job_id = client.create(spec).await;
    let has_begun = |job: &v1::Job| job.progress.is_some_and(|progress| progress.items_stored > 0);
    client.wait_job(job_id, "in its middle", has_begun).await;
    grid.star("star-3").signal(Signal::KILL);
    grid.star("star-3").ended().await;
    grid.add_star("star-3").await;
    let pause = v1::PauseJobRequest { job_id, ..v1::PauseJobRequest::default() };
    client.jobs().pause_job(pause).await.expect("a job can be paused");
    grid.coordinator().signal(Signal::KILL);
    grid.coordinator().ended().await;
    grid.restart_coordinator().await;
    let client = grid.client();
    for star in ["star-1", "star-2", "star-3"] {
        client.wait_star(star, "is back", orbit_tests::grid::is_ready).await;
    }
    let resume = v1::ResumeJobRequest { job_id, ..v1::ResumeJobRequest::default() };
    client.jobs().resume_job(resume).await.expect("a job can be resumed");
    let cancel = v1::CancelJobRequest { job_id, ..v1::CancelJobRequest::default() };
    client.jobs().cancel_job(cancel).await.expect("a job can be cancelled");
    client.wait_end(job_id).await;
}

/// One vault is drained, and then the other, which has the last copies then.
async fn drain(grid: &mut Grid) {
    let drained = orbit(grid, &["star", "drain", "star-3", "--wait"]).await;
    let said = String::from_utf8_lossy(&drained.stderr).into_owned();
    assert!(drained.status.success() && !said.contains("only copy"), "star-2 has copies: {said}");
    let drained = orbit(grid, &["star", "drain", "star-2", "--wait"]).await;
    let said = String::from_utf8_lossy(&drained.stderr).into_owned();
    assert!(said.contains("warning: star-2: it has the only copy of 2 snapshots"), "{said}");
    let stopped = orbit(grid, &["star", "shutdown", "star-3"]).await;
    let said = String::from_utf8_lossy(&stopped.stderr).into_owned();
    assert!(stopped.status.success() && said.contains("the only copy of 2 snapshots"), "{said}");
    assert!(grid.star("star-3").ended().await.success());
}

#[tokio::test]
async fn a_small_grid_shows_every_type_of_event() {
    let mut grid = Grid::start(&["star-1", "star-2", "star-3"]).await;
    let client = grid.client();
    let copied = copy_files(&grid, &client).await;
    let (packed, renamed) = pack_and_rename(&grid, &client).await;
    kill_and_restart(&mut grid, &client).await;
    drain(&mut grid).await;

    let client = grid.client();
    let events = all_events(&client).await;
    let expected: BTreeSet<ProvenanceType> =
        (1..=20).map(|number| ProvenanceType::try_from(number).expect("there are twenty types")).collect();
    let found: BTreeSet<ProvenanceType> = events.iter().map(v1::ProvenanceEvent::r#type).collect();
    let missing: Vec<_> = expected.difference(&found).collect();
    assert!(missing.is_empty(), "never recorded: {missing:?}");

    // Each is found by its type, and nothing else is.
    for kind in expected {
        let request = v1::ListEventsRequest {
            r#type: kind.into(),
            page_size: 1000,
            ..v1::ListEventsRequest::default()
        };
        let listed =
            client.provenance().list_events(request).await.expect("events are listed").into_inner().events;
        assert!(!listed.is_empty() && listed.iter().all(|event| event.r#type() == kind), "{kind:?}");
    }

    // Chunks are summed: hundreds of files have a few events, with all bytes.
    let chunks = |job: u64, kind: ProvenanceType| {
        events.iter().filter(move |event| event.job_id == job && event.r#type() == kind)
    };
    let transferred: Vec<_> = chunks(copied, ProvenanceType::ChunkTransferred).collect();
    assert!(transferred.len() < FILES / 10, "{} events for {FILES} files", transferred.len());
    let number =
        |event: &v1::ProvenanceEvent, name: &str| event.context[name].parse::<u64>().expect("a number");
    let files: u64 = transferred.iter().map(|event| number(event, "files")).sum();
    let bytes: u64 = transferred.iter().map(|event| event.bytes).sum();
    assert_eq!((files, bytes), (FILES as u64 + 1, FILES as u64 * 2_000 + (4 << 20)));
    assert!(
        transferred.iter().all(|event| number(event, "chunks") >= number(event, "files")),
        "{transferred:#?}"
    );
    let packed_bytes: BTreeMap<&str, u64> =
        chunks(packed, ProvenanceType::ChunkPacked).fold(BTreeMap::new(), |mut sums, event| {
            *sums.entry(event.star_id.as_str()).or_default() += event.bytes;
            sums
        });
    assert_eq!(packed_bytes.keys().copied().collect::<Vec<_>>(), ["star-2", "star-3"]);
    let moved: Vec<_> = chunks(renamed, ProvenanceType::FileRenamed).collect();
    assert_eq!(moved.len(), 2, "one file in each of two vaults: {moved:#?}");
    for event in moved {
        assert_eq!((event.context["renamed_from"].as_str(), event.bytes), ("large", (4 << 20) + 1000));
        assert!(event.source.ends_with("tree/d0000/larger"), "{event:#?}");
    }
}
