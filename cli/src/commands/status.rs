//! `orbit status`: the grid on one screen.

use orbit_proto::v1::{ListBulletinsRequest, ListGuardsRequest, ListJobsRequest, ListStarsRequest, Severity};

use super::{bulletins, guard, job, star};
use crate::client::Client;
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::tone::{TITLE, paint};
use crate::output::{Output, json};

const STARS_SHOWN: i32 = 50;
const JOBS_SHOWN: i32 = 10;
const BULLETINS_SHOWN: i32 = 10;

pub(super) async fn run(client: &Client, output: Output) -> Result<Outcome, CliError> {
    let (mut of_stars, mut of_jobs, mut of_guards, mut of_bulletins) =
        (client.stars(), client.jobs(), client.guards(), client.bulletins());
    let warnings = ListBulletinsRequest {
        min_severity: Severity::Warning.into(),
        limit: BULLETINS_SHOWN,
        ..ListBulletinsRequest::default()
    };
    let (stars, jobs, guards, bulletins) = tokio::try_join!(
        of_stars.list_stars(ListStarsRequest { page_size: STARS_SHOWN, ..ListStarsRequest::default() }),
        of_jobs.list_jobs(ListJobsRequest { page_size: JOBS_SHOWN, ..ListJobsRequest::default() }),
        of_guards.list_guards(ListGuardsRequest { page_size: STARS_SHOWN, ..ListGuardsRequest::default() }),
        of_bulletins.list_bulletins(warnings),
    )?;
    let (stars, jobs, guards, bulletins) =
        (stars.into_inner(), jobs.into_inner(), guards.into_inner(), bulletins.into_inner());
    if output.is_json() {
        let answers =
            [json::value(&stars)?, json::value(&jobs)?, json::value(&guards)?, json::value(&bulletins)?];
        output.line(&merge(answers).to_string())?;
        return Ok(Outcome::Completed);
    }
    let more = |token: &str| if token.is_empty() { "" } else { " (more than shown)" };
    let sections = [
        (format!("STARS{}", more(&stars.next_page_token)), star::render(&stars.stars, true)),
        (format!("NEWEST JOBS{}", more(&jobs.next_page_token)), job::table(&jobs.jobs, true)),
        (format!("GUARDS{}", more(&guards.next_page_token)), guard::render(&guards.guards, true)),
        ("NEWEST WARNINGS AND ERRORS".to_owned(), bulletins::render(&bulletins.bulletins)),
    ];
    output.text(&sections.map(|(title, text)| section(&title, &text)).join("\n\n"))?;
    Ok(Outcome::Completed)
}

fn section(title: &str, text: &str) -> String {
    let text = if text.is_empty() { "none" } else { text };
    let lines: Vec<String> = text.lines().map(|line| format!("  {line}")).collect();
    format!("{}\n{}", paint(TITLE, title), lines.join("\n"))
}

/// One object with the lists of all answers. The page tokens would contradict each other and mean nothing here.
fn merge(answers: impl IntoIterator<Item = serde_json::Value>) -> serde_json::Value {
    let mut merged = serde_json::Map::new();
    for answer in answers {
        if let serde_json::Value::Object(fields) = answer {
            merged.extend(fields.into_iter().filter(|(name, _)| name != "nextPageToken"));
        }
    }
    serde_json::Value::Object(merged)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_answers_become_one_object() {
        let merged = merge([json!({"stars": [], "nextPageToken": ""}), json!({"jobs": [1]})]);
        assert_eq!(merged, json!({"stars": [], "jobs": [1]}));
    }

    #[test]
    fn an_empty_section_says_so() {
        assert_eq!(section("JOBS", ""), "\x1b[1mJOBS\x1b[0m\n  none");
    }
}
