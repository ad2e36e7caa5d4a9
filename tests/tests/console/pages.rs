//! Every page, in light and dark mode and on a phone: it loads without errors, fits, and can be used by keyboard.

use orbit_proto::v1;
use orbit_tests::browser::{Look, Page};
use orbit_tests::client::Client;
use orbit_tests::grid::{Grid, is_ready};
use orbit_tests::tree::plant_files;

use super::{assert_clean, browser, picture, url};

/// A grid with everything: jobs that have ended, one that runs, one that is paused, dead letters, bulletins.
async fn lively_grid() -> (Grid, Client, u64) {
    let mut grid = Grid::start(&["star-2", "star-3"]).await;
    grid.launch_star("star-1", grid.powerless_star_command("star-1")).await;
    let client = grid.client();
    client.wait_star("star-1", "receives work", is_ready).await;
    let root = grid.root("star-1");
    plant_files(&root.join("photos"), 80, 120_000, 1);
    plant_files(&root.join("projects/renders"), 300, 60_000, 2);
    plant_files(&root.join("backup"), 40, 40_000, 3);
    let gone = root.join("photos/locked");
    std::fs::write(&gone, "not to be read").expect("a file can be written");
    std::fs::set_permissions(&gone, std::os::unix::fs::PermissionsExt::from_mode(0o000)).expect("a mode");
    let first = client.create(grid.copy_spec("photos", "star-1", &["star-2", "star-3"])).await;
    client.wait_end(first).await;
    let second = client.create(grid.copy_spec("backup", "star-1", &["star-3"])).await;
    client.wait_end(second).await;
    let packed = client.create(grid.packed_spec("photos", "star-1", &["star-2"])).await;
    client.wait_end(packed).await;
    let slow = |path: &str, rate| v1::JobSpec {
        max_bytes_per_second: rate,
        ..grid.copy_spec(path, "star-1", &["star-2"])
    };
    let paused = client.create(slow("backup", 100_000)).await;
    let request = v1::PauseJobRequest {
        job_id: paused,
        reason: "until the night".to_owned(),
        ..v1::PauseJobRequest::default()
    };
    client.jobs().pause_job(request).await.expect("a running job can be paused");
    let running = client.create(slow("projects", 600_000)).await;
    let request = v1::CordonStarRequest { star_id: "star-3".to_owned(), ..v1::CordonStarRequest::default() };
    client.stars().cordon_star(request).await.expect("a Star can be cordoned");
    client
        .wait_job(running, "moves", |job| job.progress.is_some_and(|done| done.bytes_stored > 1_500_000))
        .await;
    (grid, client, running)
}

#[tokio::test]
async fn every_page_loads_cleanly_by_day_by_night_and_on_a_phone() {
    let Some(browser) = browser().await else { return };
    let (grid, client, running) = lively_grid().await;
    let dead = client.dead_letters_of(1).await;
    let item = dead.first().expect("a dead letter").item_key.clone();
    let places = [
        ("overview", "/".to_owned(), "Throughput"),
        ("stars", "/stars".to_owned(), "All Stars"),
        ("star", "/stars/star-1".to_owned(), "Lifecycle"),
        ("star-vault", "/stars/star-2".to_owned(), "Snapshots"),
        ("jobs", "/jobs".to_owned(), "Ended"),
        ("job", format!("/jobs/{running}"), "Asked for"),
        ("job-partial", "/jobs/1".to_owned(), "Asked for"),
        ("item", format!("/items/{item}"), "Lineage"),
        ("bulletins", "/bulletins".to_owned(), "Notices"),
        ("dead-letters", "/dead-letters".to_owned(), "Given up"),
        ("nowhere", "/no/such/page".to_owned(), "There is no such page"),
    ];
    for (look_name, look) in [("light", Look::DESK), ("dark", Look::NIGHT), ("phone", Look::PHONE)] {
        let page = browser.open(&url(&grid, "/"), look).await;
        page.wait("document.querySelector('#link-state').dataset.link === 'live'").await;
        for (name, place, text) in &places {
            page.go(&url(&grid, place)).await;
            page.wait_text(text).await;
            page.wait("!document.querySelector('main').innerText.includes('Loading…')").await;
            assert_fits(&page, name).await;
            page.picture(&picture(&format!("{name}-{look_name}"))).await;
        }
        let ground = page.value("getComputedStyle(document.body).backgroundColor").await;
        let ground = ground.as_str().expect("a colour").to_owned();
        let is_dark = ground.starts_with("rgb(1");
        assert_eq!(is_dark, look.is_dark, "{ground}");
        assert_clean(&page);
    }
}

/// Nothing is wider than the window.
async fn assert_fits(page: &Page, name: &str) {
    let widths = page.value("[document.documentElement.scrollWidth, window.innerWidth]").await;
    assert!(widths[0].as_f64() <= widths[1].as_f64(), "{name} is wider than its window: {widths}");
}

#[tokio::test]
async fn every_page_can_be_walked_through_by_keyboard_and_says_what_it_is() {
    let Some(browser) = browser().await else { return };
    let (grid, _, running) = lively_grid().await;
    let page = browser.open(&url(&grid, "/"), Look::DESK).await;
    page.wait("document.querySelector('#link-state').dataset.link === 'live'").await;
    page.press("Tab").await;
    assert_eq!(page.value("document.activeElement.textContent").await, "Skip to content");
    page.picture(&picture("keyboard-skip")).await;
    let mut seen = Vec::new();
    for _ in 0..6 {
        page.press("Tab").await;
        seen.push(page.value("document.activeElement.innerText.split('\\n')[0]").await);
    }
    assert_eq!(seen, ["Orbit Grid", "Overview", "Jobs", "Stars", "Bulletins", "Dead letters"]);
    let outline = page.value("getComputedStyle(document.activeElement).outlineStyle").await;
    assert_eq!(outline, "solid", "what has the focus cannot be seen");
    page.press("Enter").await;
    page.wait("document.title.includes('Dead letters') && document.activeElement.id === 'main'").await;
    // The focus is kept although the page is drawn again several times a second.
    page.go(&url(&grid, &format!("/jobs/{running}"))).await;
    page.wait_text("Asked for").await;
    page.value("document.querySelector('[data-act=pause]').focus()").await;
    let before = page.value("document.querySelector('.big-value').textContent").await;
    page.wait(&format!("document.querySelector('.big-value').textContent !== {before}")).await;
    assert_eq!(page.value("document.activeElement.dataset.act").await, "pause");
    for place in ["/", "/stars", "/stars/star-1", "/jobs", "/bulletins", "/dead-letters"] {
        page.go(&url(&grid, place)).await;
        page.wait("document.querySelector('main h1')").await;
        let nameless = page
            .value(
                "[...document.querySelectorAll('a, button, input, select, [role=progressbar], [role=img]')]\
                 .filter(e => !(e.innerText || e.ariaLabel || e.labels?.[0]?.innerText || '').trim())\
                 .map(e => e.outerHTML)",
            )
            .await;
        assert_eq!(nameless, serde_json::json!([]), "{place}");
        let heads = page.value("document.querySelectorAll('main h1').length").await;
        assert_eq!(heads, 1, "{place}");
    }
    assert_clean(&page);
}
