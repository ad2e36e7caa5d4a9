//! `docs/http.md` is correct: every command in it is run, in order, in one grid, and prints the output on the page.

use std::collections::BTreeSet;
use std::path::Path;

use orbit_tests::deadline::{eventually, within};
use orbit_tests::grid::Grid;
use orbit_tests::http::Http;
use orbit_tests::tree::plant_files;
use tokio::process::Command;

/// A command and its output.
struct Example {
    command: String,
    expected: String,
}

fn examples(document: &str) -> Vec<Example> {
    let mut found: Vec<Example> = Vec::new();
    let mut is_inside = false;
    for line in document.lines() {
        if line.starts_with("```") {
            is_inside = line == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| is_inside) {
            found.push(Example { command: command.to_owned(), expected: String::new() });
        } else if is_inside {
            let example = found.last_mut().expect("a block begins with a command");
            example.expected.push_str(line);
            example.expected.push('\n');
        }
    }
    found
}

/// Whether a text is equal to the expected one, in which `…` matches anything.
fn is_like(expected: &str, text: &str) -> bool {
    let mut pieces = expected.split('…');
    let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut pieces = pieces.peekable();
    if pieces.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return rest.ends_with(piece);
        }
        let Some((_, after)) = rest.split_once(piece) else { return false };
        rest = after;
    }
    true
}

#[test]
fn only_an_ellipsis_matches_anything() {
    for (expected, text, is_so) in [
        ("a…c", "abc", true),
        ("a…c", "ac", true),
        ("a…c", "abcd", false),
        ("a…b…c", "a.b.c", true),
        ("a…b…c", "a.c", false),
        ("abc", "abc", true),
        ("abc", "abcd", false),
        ("…", "", true),
    ] {
        assert_eq!(is_like(expected, text), is_so, "{expected} {text}");
    }
}

#[tokio::test]
async fn every_command_of_the_page_prints_what_it_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/http.md");
    let document = std::fs::read_to_string(path).expect("docs/http.md can be read");
    let grid = Grid::start(&["star-1", "star-2"]).await;
    let (client, http) = (grid.client(), Http::new(grid.http_address()));
    let photos = grid.root("star-1");
    plant_files(&photos.join("2026"), 12, 20_000, 1);
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, photos.join("pipe"), rustix::fs::FileType::Fifo, mode, 0)
        .expect("a FIFO can be made");
    eventually("a health sample of star-2", async || client.star("star-2").await.health).await;
    let places = [
        ("127.0.0.1:7180", grid.http_address().to_owned()),
        ("/tmp/w/photos", photos.display().to_string()),
        ("/tmp/w/backup-1", grid.root("star-2").display().to_string()),
    ];
    let mut used = BTreeSet::new();
    for Example { command, expected } in examples(&document) {
        let mut real = command.clone();
        places.iter().for_each(|(shown, place)| real = real.replace(shown, place));
        let mut shell = Command::new("bash");
        shell.args(["-c", &real]).kill_on_drop(true);
        let output = within(&command, shell.output()).await.expect("bash starts");
        let mut text = String::from_utf8(output.stdout).expect("text");
        places.iter().for_each(|(shown, place)| text = text.replace(place, shown));
        assert!(
            is_like(expected.trim_end(), text.trim_end()),
            "$ {command}\nprints\n{text}\nand should print\n{expected}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let made = if command.contains("/api/jobs -d") { text.split("\"jobId\":\"").nth(1) } else { None };
        let made = made.and_then(|rest| rest.split('"').next()?.parse().ok());
        // The job that is slow on purpose is cancelled later.
        if let Some(job_id) = made.filter(|_| !command.contains("max_bytes_per_second")) {
            client.wait_end(job_id).await;
        }
        used.insert((command.contains(" -d "), command));
    }
    // Every route has an example.
    let described = http.json("/api/openapi.json").await;
    for (path, item) in described["paths"].as_object().expect("paths") {
        let pieces: Vec<&str> = path.split(['{', '}']).collect();
        for verb in item.as_object().expect("verbs").keys() {
            let is_example = |(is_post, command): &(bool, String)| {
                let Some((_, after)) = command.rsplit_once("127.0.0.1:7180") else { return false };
                let asked = after.split(['?', ' ', '\'', '"']).next().unwrap_or_default();
                let pattern =
                    pieces.iter().enumerate().map(|(index, piece)| if index % 2 == 0 { piece } else { "…" });
                *is_post == (verb == "post") && is_like(&pattern.collect::<String>(), asked)
            };
            assert!(used.iter().any(is_example), "{verb} {path} has no example in docs/http.md");
        }
    }
}
