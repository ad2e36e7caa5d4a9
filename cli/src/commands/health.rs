//! `orbit health`.

use orbit_proto::v1::{GetHealthHistoryRequest, ListAdvisoriesRequest, StarAdvisories, TimedHealthSample};

use crate::args::HealthArgs;
use crate::client::Client;
use crate::commands::pages::Pages;
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::table::Table;
use crate::output::tone;
use crate::output::{Output, human};
use crate::vocabulary::Vocabulary;

pub(super) async fn run(args: HealthArgs, client: &Client, output: Output) -> Result<Outcome, CliError> {
    match args.history {
        Some(star_id) => history(star_id, client, output).await?,
        None => advisories(args.star.unwrap_or_default(), client, output).await?,
    }
    Ok(Outcome::Completed)
}

async fn advisories(star_id: String, client: &Client, output: Output) -> Result<(), CliError> {
    let mut pages = Pages::new(0);
    while let Some((page_size, page_token)) = pages.next() {
        let request = ListAdvisoriesRequest { star_id: star_id.clone(), page_size, page_token };
        let page = client.health().list_advisories(request).await?.into_inner();
        let has_headings = pages.took(page.stars.len(), &page.next_page_token);
        output.answer(&page, |page| render(&page.stars, has_headings))?;
    }
    pages.note_end(&output, "No Star has sent a health sample yet.");
    Ok(())
}

fn render(stars: &[StarAdvisories], has_headings: bool) -> String {
    let mut table = Table::new(&["STAR", "ADVICE", "FINDING"]);
    let types = Vocabulary::of("AdvisoryType");
    for star in stars {
        for advisory in &star.advisories {
            let row =
                table.row([star.star_id.clone(), types.word(advisory.r#type), advisory.message.clone()]);
            row.tone("ADVICE", tone::of_advice(advisory.r#type()));
        }
    }
    table.render(has_headings)
}

async fn history(star_id: String, client: &Client, output: Output) -> Result<(), CliError> {
    let mut pages = Pages::new(0);
    while let Some((page_size, page_token)) = pages.next() {
        let request = GetHealthHistoryRequest { star_id: star_id.clone(), page_size, page_token };
        let page = client.health().get_health_history(request).await?.into_inner();
        let has_headings = pages.took(page.samples.len(), &page.next_page_token);
        output.answer(&page, |page| render_samples(&page.samples, has_headings))?;
    }
    pages.note_end(&output, "This Star has not sent a health sample yet.");
    Ok(())
}

fn render_samples(samples: &[TimedHealthSample], has_headings: bool) -> String {
    let mut table = Table::new(&["TIME", ">FREE", ">TOTAL", ">RATE", ">ERRORS", ">OPERATIONS"]);
    for timed in samples {
        let sample = timed.sample.unwrap_or_default();
        table.row([
            human::time(timed.time.as_ref()),
            human::bytes(sample.disk_available_bytes),
            human::bytes(sample.disk_total_bytes),
            human::rate(sample.throughput_bytes_per_sec),
            human::count(sample.error_count),
            human::count(sample.total_operations),
        ]);
    }
    table.render(has_headings)
}
