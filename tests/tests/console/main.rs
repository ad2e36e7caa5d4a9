//! The console as its readers meet it: a real Chromium on a real grid.
//!
//! Pictures are written below `target/console`, to be looked at.

mod pages;
mod story;

use std::path::PathBuf;

use orbit_tests::browser::{Browser, Page};
use orbit_tests::grid::Grid;
use orbit_tests::programs::target_directory;

/// A browser, or the end of a test where there is none and there need not be one.
async fn browser() -> Option<Browser> {
    let browser = Browser::start().await;
    #[expect(clippy::print_stderr, reason = "whoever runs the test should know what it did not do")]
    if browser.is_none() {
        eprintln!("skipped: there is no chromium; `scripts/test` installs it");
    }
    browser
}

fn picture(name: &str) -> PathBuf {
    target_directory().join("console").join(format!("{name}.png"))
}

fn url(grid: &Grid, place: &str) -> String {
    format!("http://{}/#{place}", grid.http_address())
}

/// Nothing has gone wrong in the page: no script failed, nothing was missing, no policy was broken.
fn assert_clean(page: &Page) {
    assert_eq!(page.errors(), Vec::<String>::new());
}
