//! The console in a real browser: Chromium on a real grid.
//!
//! Screenshots are written below `target/console`.

mod pages;
mod story;

use std::path::PathBuf;

use orbit_tests::browser::{Browser, Page};
use orbit_tests::grid::Grid;
use orbit_tests::programs::target_directory;

/// A browser; `None`, with which a test ends, if there is none and none is required.
async fn browser() -> Option<Browser> {
    let browser = Browser::start().await;
    #[expect(clippy::print_stderr, reason = "the user of the test should know what it did not do")]
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

/// Asserts that there was no error in the page: of a script, of a missing file, or of the content security policy.
fn assert_clean(page: &Page) {
    assert_eq!(page.errors(), Vec::<String>::new());
}
