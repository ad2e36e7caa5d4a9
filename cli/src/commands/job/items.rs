//! `orbit job items` and `orbit job explain`.

use orbit_proto::v1::{ExplainItemRequest, ExplainItemResponse, Gate, Item, ListItemsRequest};
use orbit_shared::words::ItemId;

use crate::args::ItemsArgs;
use crate::client::Client;
use crate::commands::pages::Pages;
use crate::errors::CliError;
use crate::output::table::{self, Table};
use crate::output::tone::{self, Tone};
use crate::output::{Output, human};
use crate::vocabulary::{Vocabulary, word};

pub(super) async fn list(args: ItemsArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let mut pages = Pages::new(args.limit);
    while let Some((page_size, page_token)) = pages.next() {
        let request =
            ListItemsRequest { job_id: args.job_id, states: args.state.clone(), page_size, page_token };
        let page = client.jobs().list_items(request).await?.into_inner();
        let has_headings = pages.took(page.items.len(), &page.next_page_token);
        output.answer(&page, |page| render(&page.items, has_headings))?;
    }
    pages.note_end(&output, "There are no such items.");
    Ok(())
}

fn render(items: &[Item], has_headings: bool) -> String {
    let mut table = Table::new(&["ITEM", "STATE", "KIND", ">SIZE", ">ATTEMPTS", "TO", "PATH"]);
    let (states, kinds) = (Vocabulary::of("ItemState"), Vocabulary::of("EntryKind"));
    for item in items {
        let row = table.row([
            item.item_key.clone(),
            states.word(item.state),
            kinds.word(item.kind),
            human::bytes(item.size_bytes),
            item.attempts.to_string(),
            item.star_id.clone(),
            shown_path(item),
        ]);
        row.tone("STATE", tone::of_item(item.state()));
    }
    table.render(has_headings)
}

/// The source path itself has an empty path below it.
fn shown_path(item: &Item) -> String {
    if item.path.is_empty() { ".".to_owned() } else { item.path.clone() }
}

pub(super) async fn explain(item: ItemId, client: &Client, output: Output) -> Result<(), CliError> {
    let request = ExplainItemRequest { item_key: item.to_string() };
    let answer = client.jobs().explain_item(request).await?.into_inner();
    output.answer(&answer, explanation)
}

fn explanation(answer: &ExplainItemResponse) -> String {
    let item = answer.item.clone().unwrap_or_default();
    let gate = match answer.gate() {
        Gate::Unspecified => String::new(),
        Gate::JobState
        | Gate::Lifecycle
        | Gate::Liveness
        | Gate::Cordon
        | Gate::Guard
        | Gate::Penalty
        | Gate::Bandwidth
        | Gate::Order
        | Gate::Yield => word("Gate", answer.gate),
    };
    let mut pairs = vec![
        ("item", item.item_key.clone()),
        ("path", shown_path(&item)),
        ("to", item.star_id.clone()),
        ("state", word("ItemState", item.state)),
        ("held by", gate),
        ("why", answer.explanation.clone()),
        ("earliest", human::time(answer.earliest_time.as_ref())),
    ];
    if let Some(letter) = &answer.dead_letter {
        pairs.extend([
            ("dead letter", letter.dead_letter_id.to_string()),
            ("failure", word("FailureReason", letter.failure_reason)),
            ("attempts", letter.attempts.to_string()),
            ("last error", letter.last_error.clone()),
        ]);
    }
    let tones = [("state", tone::of_item(item.state())), ("held by", Tone::Warning), ("failure", Tone::Bad)];
    table::details(&pairs, &tones)
}

#[cfg(test)]
mod tests {
    use orbit_proto::v1::{DeadLetter, FailureReason, ItemState};

    use super::*;

    #[test]
    fn an_explanation_names_the_gate_and_the_dead_letter() {
        let item = Item { item_key: "7/0/1".into(), state: ItemState::Queued.into(), ..Item::default() };
        let held = ExplainItemResponse {
            item: Some(item),
            gate: Gate::Cordon.into(),
            explanation: "star-2 is cordoned".into(),
            ..ExplainItemResponse::default()
        };
        let stripped = |text: String| anstream::adapter::strip_str(&text).to_string();
        let text = stripped(explanation(&held));
        assert!(text.contains("held by  cordon") && text.contains("path     ."), "{text}");
        let letter = DeadLetter {
            failure_reason: FailureReason::SourceMissing.into(),
            last_error: "gone".into(),
            ..DeadLetter::default()
        };
        let ended = ExplainItemResponse { dead_letter: Some(letter), ..ExplainItemResponse::default() };
        let text = stripped(explanation(&ended));
        assert!(
            text.contains("source-missing") && text.contains("gone") && !text.contains("held by  "),
            "{text}"
        );
    }
}
