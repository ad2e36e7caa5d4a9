//! Changes in the grid appear on the page without a reload, and operations on the page take effect in the grid.

use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;

use orbit_proto::v1;
use orbit_tests::browser::Look;
use orbit_tests::client::Client;
use orbit_tests::deadline::eventually;
use orbit_tests::grid::{Grid, is_ready};
use orbit_tests::tree::plant_files;

use super::{assert_clean, browser, picture, url};

/// A grid whose star-1 cannot read all files, unlike root.
async fn grid_of_two() -> (Grid, Client) {
    let mut grid = Grid::start(&["star-2"]).await;
    grid.launch_star("star-1", grid.powerless_star_command("star-1")).await;
    let client = grid.client();
    client.wait_star("star-1", "receives work", is_ready).await;
    (grid, client)
}

/// Sets a filter like a reader.
async fn choose(page: &orbit_tests::browser::Page, filter: &str, value: &str) {
    let chosen = format!(
        "(() => {{ const field = document.querySelector('[data-filter={filter}]'); field.value = '{value}'; \
         field.dispatchEvent(new Event('change', {{ bubbles: true }})) }})()"
    );
    page.value(&chosen).await;
}

/// The bytes that the page shows for a job in its progress bar.
async fn shown_share(page: &orbit_tests::browser::Page, job_id: u64) -> i64 {
    let bar = format!("document.querySelector('[aria-label=\"progress of job {job_id}\"]').ariaValueNow");
    page.value(&format!("Number({bar})")).await.as_f64().map_or(-1, |share| share as i64)
}

#[tokio::test]
async fn a_running_job_moves_on_the_page_and_ends_there() {
    let Some(browser) = browser().await else { return };
    let (grid, client) = grid_of_two().await;
    plant_files(&grid.root("star-1").join("tree"), 60, 400_000, 5);
    let page = browser.open(&url(&grid, "/jobs"), Look::DESK).await;
    page.wait_text("Nothing runs.").await;
    // Slow enough to see progress: about four seconds.
    let spec =
        v1::JobSpec { max_bytes_per_second: 3_000_000, ..grid.copy_spec("tree", "star-1", &["star-2"]) };
    let job_id = client.create(spec).await;
    page.wait(&format!("document.querySelector('[data-key=\"job-{job_id}\"]')")).await;
    let first = eventually("the job to begin", async || {
        let share = shown_share(&page, job_id).await;
        (share > 0).then_some(share)
    })
    .await;
    assert!(first < 100, "the job was over before it was seen");
    page.picture(&picture("jobs-running")).await;
    page.go(&url(&grid, &format!("/jobs/{job_id}"))).await;
    page.wait_text("items are moving").await;
    page.wait_text("crossed the network").await;
    page.picture(&picture("job-running")).await;
    page.wait("document.querySelector('.page-head .badge').textContent === 'completed'").await;
    client.wait_end(job_id).await;
    page.wait_text("every item is at its destination").await;
    page.wait("document.querySelectorAll('[data-key^=\"item-\"]').length >= 50").await;
    page.picture(&picture("job-ended")).await;
    assert_clean(&page);
}

#[tokio::test]
async fn a_posted_bulletin_appears_without_a_reload_and_is_acknowledged_there() {
    let Some(browser) = browser().await else { return };
    let mut grid = Grid::start(&["star-1", "star-2"]).await;
    let page = browser.open(&url(&grid, "/bulletins"), Look::DESK).await;
    page.wait("document.querySelector('#link-state').dataset.link === 'live'").await;
    page.value("window.stayed = true").await;
    grid.star("star-2").kill().await;
    page.wait("document.querySelector('.notice.open .badge.warn, .notice.open .badge.bad')").await;
    page.wait("[...document.querySelectorAll('.notice.open')].some(e => e.innerText.includes('star-2'))")
        .await;
    page.picture(&picture("bulletins")).await;
    assert_eq!(page.value("window.stayed").await, true, "the page was loaded again");
    let client = grid.client();
    let open = async || {
        let all = client.bulletins_like(v1::ListBulletinsRequest::default()).await;
        all.iter().filter(|bulletin| !bulletin.is_acknowledged).count()
    };
    assert!(open().await > 0);
    choose(&page, "star_id", "star-1").await;
    page.wait("![...document.querySelectorAll('.notice')].some(e => e.innerText.includes('star-2'))").await;
    choose(&page, "star_id", "").await;
    // Only shown bulletins are acknowledged, so the bulletin must be shown again; and more may be posted at any time.
    page.wait("[...document.querySelectorAll('.notice.open')].some(e => e.innerText.includes('star-2'))")
        .await;
    page.click("[data-act=acknowledge-all]").await;
    eventually("every bulletin to be acknowledged", async || {
        if open().await == 0 {
            return Some(());
        }
        page.value("document.querySelector('[data-act=acknowledge-all]:enabled')?.click()").await;
        None
    })
    .await;
    page.wait("document.querySelectorAll('.notice.open').length === 0").await;
    // Another reader's page is updated as well.
    let other = browser.open(&url(&grid, "/bulletins"), Look::DESK).await;
    other.wait("document.querySelectorAll('.notice.seen').length > 0").await;
    assert_clean(&page);
    assert_clean(&other);
}

#[tokio::test]
async fn a_dead_letter_is_understood_and_retried_by_keyboard() {
    let Some(browser) = browser().await else { return };
    let (grid, client) = grid_of_two().await;
    let tree = grid.root("star-1").join("tree");
    plant_files(&tree, 12, 3000, 7);
    // A name with arbitrary bytes: markup, a line break, a change of direction, and invalid UTF-8.
    let hostile = std::ffi::OsStr::from_bytes(b"<img src=x onerror=alert(1)>\n\xe2\x80\xaegnp.exe\xff");
    for name in [std::ffi::OsStr::new("secret"), hostile] {
        std::fs::write(tree.join(name), "not to be read yet").expect("a file can be written");
        std::fs::set_permissions(tree.join(name), Permissions::from_mode(0o000)).expect("a mode can be set");
    }
    let job_id = client.create(grid.copy_spec("tree", "star-1", &["star-2"])).await;
    let job = client.wait_end(job_id).await;
    assert_eq!(job.progress.expect("progress").items_dead, 2);

    let page = browser.open(&url(&grid, &format!("/dead-letters?job_id={job_id}")), Look::DESK).await;
    page.wait_text("permanent error").await;
    page.wait_text("denied").await;
    page.wait("document.querySelectorAll('[data-key^=letter-]').length === 2").await;
    let text = page.text().await;
    assert!(text.contains("<img src=x onerror=alert(1)>") && text.contains("\\xff"), "{text}");
    assert!(!text.contains('\u{202e}'), "a name turns the text around it: {text}");
    assert_eq!(page.value("document.querySelectorAll('main img').length").await, 0);
    page.picture(&picture("dead-letters")).await;

    // A filter is kept in the address, and can be cleared.
    choose(&page, "failure_reason", "source_missing").await;
    page.wait_text("No dead letter matches.").await;
    page.wait("location.hash.includes('failure_reason=source_missing')").await;
    choose(&page, "failure_reason", "").await;
    page.wait("document.querySelectorAll('[data-key^=letter-]').length === 2").await;

    // Its history: from the list to the item.
    page.click("[data-key^=letter-] td.wide a").await;
    page.wait_text("Lineage").await;
    page.wait_text("chunk dead lettered").await;
    page.picture(&picture("item-dead")).await;

    for name in [std::ffi::OsStr::new("secret"), hostile] {
        std::fs::set_permissions(tree.join(name), Permissions::from_mode(0o644)).expect("a mode can be set");
    }
    page.go(&url(&grid, &format!("/dead-letters?job_id={job_id}"))).await;
    page.wait("document.querySelectorAll('[data-key^=letter-]').length === 2").await;
    page.value("document.querySelector('[data-act=retry]').focus()").await;
    page.press("Enter").await;
    page.wait("document.querySelectorAll('[data-key^=letter-]').length === 1").await;
    page.click("[data-act=retry-all]").await;
    page.wait_text("No dead letter matches.").await;
    let job = client.wait_job(job_id, "is whole", |job| job.state() == v1::JobState::Completed).await;
    assert_eq!(job.progress.expect("progress").items_dead, 0);
    assert_clean(&page);
}

#[tokio::test]
async fn a_lost_connection_is_shown_and_found_again() {
    let Some(browser) = browser().await else { return };
    let mut grid = Grid::start(&["star-1"]).await;
    let page = browser.open(&url(&grid, "/"), Look::DESK).await;
    page.wait("document.querySelector('#link-state').dataset.link === 'live'").await;
    assert_clean(&page);
    grid.coordinator().kill().await;
    page.wait_text("The connection to the coordinator was lost").await;
    page.wait("document.body.classList.contains('stale')").await;
    page.picture(&picture("lost")).await;
    grid.restart_coordinator().await;
    page.wait("document.querySelector('#link-state').dataset.link === 'live'").await;
    page.wait("!document.body.classList.contains('stale') && document.querySelector('#lost').hidden").await;
    page.wait_text("1 of 1").await;
}

#[tokio::test]
async fn a_star_is_drained_from_its_page_after_a_question() {
    let Some(browser) = browser().await else { return };
    let grid = Grid::start(&["star-1"]).await;
    let client = grid.client();
    let page = browser.open(&url(&grid, "/stars/star-1"), Look::DESK).await;
    page.wait_text("Lifecycle").await;
    page.click("[data-act=cordon]").await;
    page.wait_text("cordoned").await;
    page.click("[data-act=uncordon]").await;
    page.click("[data-act=drain]").await;
    page.wait("document.querySelector('dialog').open").await;
    page.picture(&picture("question")).await;
    page.press("Escape").await;
    page.wait("!document.querySelector('dialog')").await;
    let star = client.star("star-1").await;
    assert_eq!(star.state(), v1::StarState::Scheduled, "it was drained although its reader said no");
    page.click("[data-act=drain]").await;
    page.wait("document.querySelector('dialog').open").await;
    page.value("document.querySelector('#reason').value = 'new disks'").await;
    page.value("document.querySelector('#reason').focus()").await;
    page.press("Enter").await;
    let star = client.wait_star("star-1", "drains", |star| star.state() == v1::StarState::Draining).await;
    assert!(star.history.iter().any(|step| step.reason.contains("new disks")), "{star:#?}");
    page.wait_text("drained").await;
    page.picture(&picture("star-drained")).await;
    assert_clean(&page);
}

/// More jobs than are sent to the page automatically.
const MANY_JOBS: u64 = 104;

#[tokio::test]
async fn an_old_job_stays_on_its_page_and_the_list_of_jobs_goes_on() {
    let Some(browser) = browser().await else { return };
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let client = grid.client();
    std::fs::create_dir(grid.root("star-1").join("empty")).expect("a directory can be made");
    for _ in 0..MANY_JOBS {
        client.create(grid.copy_spec("empty", "star-1", &["star-2"])).await;
    }
    for job_id in 1..=MANY_JOBS {
        client.wait_end(job_id).await;
    }
    let page = browser.open(&url(&grid, "/jobs/1"), Look::DESK).await;
    page.wait_text("Asked for").await;
    // The lists that the page reads while it is live hold only the newest jobs, and must not remove this one.
    page.wait("document.querySelector('#link-state').dataset.link === 'live'").await;
    page.wait_text("every item is at its destination").await;
    page.go(&url(&grid, "/jobs")).await;
    page.wait("document.querySelectorAll('[data-key^=job-]').length === 100").await;
    page.click("[data-act=more]").await;
    page.wait(&format!("document.querySelectorAll('[data-key^=job-]').length === {MANY_JOBS}")).await;
    choose(&page, "states", "failed").await;
    page.wait_text("No job has ended so.").await;
    assert_clean(&page);
}

#[tokio::test]
async fn buttons_that_would_be_refused_are_grey() {
    let Some(browser) = browser().await else { return };
    let grid = Grid::start_with(&["star-1"], &["--http-role", "viewer"]).await;
    let page = browser.open(&url(&grid, "/stars/star-1"), Look::DESK).await;
    page.wait("document.querySelector('#link-state').dataset.link === 'live'").await;
    page.wait_text("Lifecycle").await;
    page.wait("document.querySelector('[data-act=drain]').disabled").await;
    assert_eq!(page.value("document.querySelectorAll('main [data-act]:enabled').length").await, 0);
    let title = page.value("document.querySelector('[data-act=drain]').title").await;
    assert!(title.as_str().is_some_and(|title| title.contains("--http-role")), "{title}");
    assert_clean(&page);
}
