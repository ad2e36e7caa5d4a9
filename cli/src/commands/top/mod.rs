//! `orbit top`: the grid live on the whole terminal. This file looks and listens; `screen` draws.

mod screen;

use std::io::IsTerminal as _;
use std::time::Duration;

use orbit_proto::v1::{ListBulletinsRequest, ListGuardsRequest, ListJobsRequest, ListStarsRequest, Severity};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

use self::screen::{Snapshot, View};
use crate::args::TopArgs;
use crate::client::Client;
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::Output;

/// What is looked at: more does not fit on any screen.
const ROWS_MAX: i32 = 200;
/// Looking more often shows nothing more.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Keys that wait.
const KEYS_MAX: usize = 64;

pub(super) async fn run(args: TopArgs, client: &Client, output: Output) -> Result<Outcome, CliError> {
    if output.is_json() || !std::io::stdout().is_terminal() {
        let problem = "orbit top needs a terminal; `orbit status` shows the same once, also as JSON";
        return Err(CliError::Usage(problem.to_owned()));
    }
    // What draws the screen knows of NO_COLOR only.
    ratatui::crossterm::style::force_color_output(output.is_colored());
    let mut view = View { snapshot: look(client).await?, ..View::default() };
    let mut terminal = ratatui::try_init()
        .map_err(|error| CliError::Failed(format!("the terminal cannot be taken over: {error}")))?;
    let mut keys = listen();
    let mut ticks = tokio::time::interval(args.interval.max(INTERVAL_MIN));
    let ended = loop {
        if let Err(error) = terminal.draw(|frame| screen::draw(frame, &view)) {
            break Err(CliError::Failed(format!("the terminal cannot be written to: {error}")));
        }
        tokio::select! {
            key = keys.recv() => match key {
                Some(Key::Quit) | None => break Ok(Outcome::Completed),
                Some(Key::Down) => view.scroll = view.scroll.saturating_add(1),
                Some(Key::Up) => view.scroll = view.scroll.saturating_sub(1),
                Some(Key::Redraw) => {}
            },
            _ = ticks.tick() => match look(client).await {
                Ok(snapshot) => view.take(snapshot),
                Err(error) if error.is_passing() => view.is_lost = true,
                Err(error) => break Err(error),
            },
        }
    };
    ratatui::restore();
    ended
}

/// What a person pressed.
enum Key {
    Quit,
    Up,
    Down,
    Redraw,
}

/// Listens to the keyboard on a thread of its own, which ends with the process: reading it cannot be interrupted.
fn listen() -> mpsc::Receiver<Key> {
    let (sender, keys) = mpsc::channel(KEYS_MAX);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            let key = match event {
                Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Quit,
                    KeyCode::Down | KeyCode::Char('j') => Key::Down,
                    KeyCode::Up | KeyCode::Char('k') => Key::Up,
                    _ => continue,
                },
                Event::Resize(..) => Key::Redraw,
                _ => continue,
            };
            if sender.blocking_send(key).is_err() {
                return;
            }
        }
    });
    keys
}

async fn look(client: &Client) -> Result<Snapshot, CliError> {
    let (mut of_stars, mut of_jobs, mut of_guards, mut of_bulletins) =
        (client.stars(), client.jobs(), client.guards(), client.bulletins());
    let warnings = ListBulletinsRequest {
        min_severity: Severity::Info.into(),
        limit: ROWS_MAX,
        ..ListBulletinsRequest::default()
    };
    let (stars, jobs, guards, bulletins) = tokio::try_join!(
        of_stars.list_stars(ListStarsRequest { page_size: ROWS_MAX, ..ListStarsRequest::default() }),
        of_jobs.list_jobs(ListJobsRequest { page_size: ROWS_MAX, ..ListJobsRequest::default() }),
        of_guards.list_guards(ListGuardsRequest { page_size: ROWS_MAX, ..ListGuardsRequest::default() }),
        of_bulletins.list_bulletins(warnings),
    )?;
    Ok(Snapshot {
        stars: stars.into_inner().stars,
        jobs: jobs.into_inner().jobs,
        guards: guards.into_inner().guards,
        bulletins: bulletins.into_inner().bulletins,
    })
}
