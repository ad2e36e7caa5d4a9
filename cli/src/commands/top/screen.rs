//! Draws the grid: what is wrong first, then the Stars, the jobs and the newest bulletins.

use orbit_proto::v1::{Bulletin, Guard, Job, JobState, Liveness, Star, StarState};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table};

use crate::output::human;
use crate::output::tone::{self, Tone};
use crate::parse::location;
use crate::vocabulary::word;

/// Cells of a bar.
const BAR_CELLS: u64 = 10;

/// The grid at one moment.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) stars: Vec<Star>,
    pub(super) jobs: Vec<Job>,
    pub(super) guards: Vec<Guard>,
    pub(super) bulletins: Vec<Bulletin>,
}

/// What is drawn.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) snapshot: Snapshot,
    /// Jobs that are scrolled past.
    pub(super) scroll: usize,
    /// Whether the coordinator could not be asked the last time.
    pub(super) is_lost: bool,
}

impl View {
    /// The grid has been looked at again.
    pub(super) fn take(&mut self, snapshot: Snapshot) {
        self.scroll = self.scroll.min(snapshot.jobs.len().saturating_sub(1));
        self.snapshot = snapshot;
        self.is_lost = false;
    }
}

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View) {
    let snapshot = &view.snapshot;
    let star_rows = u16::try_from(snapshot.stars.len()).unwrap_or(u16::MAX).saturating_add(3);
    let third = frame.area().height / 3;
    let [title, stars, jobs, bulletins, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(star_rows.min(third.max(5))),
        Constraint::Min(5),
        Constraint::Length(third.max(5)),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(summary(view)), title);
    draw_stars(frame, stars, snapshot);
    draw_jobs(frame, jobs, view);
    draw_bulletins(frame, bulletins, &snapshot.bulletins);
    let help = Line::styled(" q quits   arrows scroll the jobs", Style::new().add_modifier(Modifier::DIM));
    frame.render_widget(Paragraph::new(help), keys);
}

fn summary(view: &View) -> Line<'static> {
    let snapshot = &view.snapshot;
    let bad = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
    let mut spans =
        vec![Span::styled(" orbit ", Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED))];
    if view.is_lost {
        spans.push(Span::styled("  the coordinator does not answer: this is what it said last", bad));
    }
    let is_away = |star: &&Star| star.liveness() != Liveness::Alive && star.state() != StarState::Shutdown;
    let away = snapshot.stars.iter().filter(is_away).count() as u64;
    let is_running = |job: &&Job| matches!(job.state(), JobState::Scanning | JobState::Running);
    let running = snapshot.jobs.iter().filter(is_running);
    let (mut count, mut rate, mut dead) = (0, 0, 0);
    for job in running {
        let progress = job.progress.unwrap_or_default();
        count += 1;
        rate += progress.bytes_per_second;
        dead += progress.items_dead;
    }
    let stars = human::count_of(snapshot.stars.len() as u64, "Star");
    spans.push(Span::raw(format!(
        "  {stars}, {} running, {}",
        human::count_of(count, "job"),
        human::rate(rate)
    )));
    if away > 0 {
        spans.push(Span::styled(format!("  {} not heard", human::count_of(away, "Star")), bad));
    }
    if dead > 0 {
        spans.push(Span::styled(format!("  {}", human::count_of(dead, "dead letter")), bad));
    }
    Line::from(spans)
}

fn panel(title: &'static str) -> Block<'static> {
    Block::new().borders(Borders::TOP).title(title)
}

fn headings(names: &[&'static str]) -> Row<'static> {
    Row::new(names.to_vec()).style(Style::new().add_modifier(Modifier::DIM))
}

fn draw_stars(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot) {
    let rows = snapshot.stars.iter().map(|star| {
        let guard = snapshot.guards.iter().find(|guard| guard.star_id == star.star_id);
        Row::new([
            Cell::new(human::plain(&star.star_id)),
            Cell::new(word("StarState", star.state)).style(style_of(tone::of_star(star))),
            Cell::new(word("Liveness", star.liveness)).style(style_of(tone::of_liveness(star))),
            Cell::new(star.active_tasks.to_string()),
            Cell::new(guard.map(fill).unwrap_or_default()),
            Cell::new(free(star)),
            Cell::new(trouble(star, guard)).style(style_of(Tone::Warning)),
        ])
    });
    let widths = [
        Constraint::Max(24),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Length(5),
        Constraint::Length(16),
        Constraint::Length(22),
        Constraint::Fill(1),
    ];
    let names = ["STAR", "STATE", "HEARD", "WORK", "GUARD", "DISK FREE", "WHAT IS WRONG"];
    frame.render_widget(Table::new(rows, widths).header(headings(&names)).block(panel(" Stars ")), area);
}

/// How full a guard is, by whichever of its two limits is nearer.
fn fill(guard: &Guard) -> String {
    let share = |used: u64, max: u64| used.saturating_mul(100).checked_div(max).unwrap_or(0);
    let items = share(guard.object_count, guard.max_object_count);
    bar(items.max(share(guard.byte_size, guard.max_byte_size)))
}

fn bar(percent: u64) -> String {
    let full = usize::try_from((percent.min(100) * BAR_CELLS).div_ceil(100)).unwrap_or(0);
    let empty = usize::try_from(BAR_CELLS).unwrap_or(0) - full;
    format!("{}{} {percent:>3}%", "█".repeat(full), "░".repeat(empty))
}

fn free(star: &Star) -> String {
    let Some(health) = &star.health else { return String::new() };
    format!("{} of {}", human::bytes(health.disk_available_bytes), human::bytes(health.disk_total_bytes))
}

fn trouble(star: &Star, guard: Option<&Guard>) -> String {
    let mut parts = Vec::new();
    if star.is_cordoned {
        parts.push("cordoned".to_owned());
    }
    if let Some(guard) = guard.filter(|guard| guard.is_paused) {
        parts.push(format!("guard paused: {}", guard.pause_reason));
    }
    let advice = star.advisories.iter().filter(|advisory| word("AdvisoryType", advisory.r#type) != "healthy");
    parts.extend(advice.map(|advisory| advisory.message.clone()));
    parts.extend(star.yields.iter().cloned());
    parts.extend(star.drain_blockers.iter().cloned());
    human::plain(&parts.join("; "))
}

fn draw_jobs(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let rows = view.snapshot.jobs.iter().skip(view.scroll).map(|job| {
        let progress = job.progress.unwrap_or_default();
        let done = progress.items_stored + progress.items_skipped;
        let percent = match (progress.bytes_total, progress.items_total) {
            (0, 0) => 0,
            (0, items) => done.saturating_mul(100) / items,
            (bytes, _) => progress.bytes_stored.saturating_mul(100) / bytes,
        };
        let left = human::wire_duration(progress.estimated_remaining.as_ref());
        Row::new([
            Cell::new(job.job_id.to_string()),
            Cell::new(word("JobState", job.state)).style(style_of(tone::of_job(job))),
            Cell::new(bar(percent)),
            Cell::new(format!("{} of {}", human::count(done), human::count(progress.items_total))),
            Cell::new(human::rate(progress.bytes_per_second)),
            Cell::new(left.map(human::duration).unwrap_or_default()),
            Cell::new(dead(progress.items_dead)).style(style_of(Tone::Bad)),
            Cell::new(human::plain(&way(job))),
        ])
    });
    let widths = [
        Constraint::Length(5),
        Constraint::Length(19),
        Constraint::Length(16),
        Constraint::Length(22),
        Constraint::Length(12),
        Constraint::Length(12),
        Constraint::Length(8),
        Constraint::Fill(1),
    ];
    let names =
        ["JOB", "STATE", "DONE", "ITEMS", "RATE", "LEFT", "DEAD", "FROM → TO, AND WHY IT STANDS THERE"];
    frame.render_widget(Table::new(rows, widths).header(headings(&names)).block(panel(" Jobs ")), area);
}

fn dead(count: u64) -> String {
    if count == 0 { String::new() } else { human::count(count) }
}

fn way(job: &Job) -> String {
    let Some(spec) = &job.spec else { return job.state_reason.clone() };
    let source = spec.source.as_ref().map(location::display).unwrap_or_default();
    let places: Vec<String> = spec.destinations.iter().map(location::display).collect();
    let reason = if job.state_reason.is_empty() { String::new() } else { format!("  {}", job.state_reason) };
    format!("{source} → {}{reason}", places.join(" "))
}

fn draw_bulletins(frame: &mut Frame<'_>, area: Rect, bulletins: &[Bulletin]) {
    let lines = bulletins.iter().map(|bulletin| {
        let times = match bulletin.repeat_count {
            0 => String::new(),
            more => format!(" ({} times)", human::count(more + 1)),
        };
        let text = format!(
            "{} {:7} {} [{}] {}{times}",
            human::time(bulletin.time.as_ref()),
            word("Severity", bulletin.severity),
            human::plain(&bulletin.star_id),
            human::plain(&bulletin.category),
            human::plain(&bulletin.message)
        );
        Line::styled(text, style_of_bulletin(bulletin))
    });
    frame.render_widget(
        Paragraph::new(lines.collect::<Vec<_>>()).block(panel(" Bulletins, newest first ")),
        area,
    );
}

/// The style for what a word means, as in tables.
fn style_of(tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Good => Style::new().fg(Color::Green),
        Tone::Warning => Style::new().fg(Color::Yellow),
        Tone::Bad => Style::new().fg(Color::Red),
    }
}

fn style_of_bulletin(bulletin: &Bulletin) -> Style {
    let style = style_of(tone::of_severity(bulletin.severity()));
    if bulletin.is_acknowledged { style.add_modifier(Modifier::DIM) } else { style }
}

#[cfg(test)]
mod tests {
    use orbit_proto::v1::{HealthSample, JobProgress, Severity};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn drawn(view: &View, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
        (0..height).map(row).collect::<Vec<_>>().join("\n")
    }

    fn view() -> View {
        let star = Star {
            star_id: "star-2".into(),
            state: StarState::Scheduled.into(),
            liveness: Liveness::Lost.into(),
            active_tasks: 3,
            is_cordoned: true,
            health: Some(HealthSample {
                disk_available_bytes: 1 << 30,
                disk_total_bytes: 4 << 30,
                ..HealthSample::default()
            }),
            ..Star::default()
        };
        let guard = Guard {
            star_id: "star-2".into(),
            object_count: 9,
            max_object_count: 10,
            max_byte_size: 100,
            ..Guard::default()
        };
        let progress = JobProgress {
            items_total: 200,
            items_stored: 90,
            items_skipped: 10,
            items_dead: 4,
            bytes_total: 1000,
            bytes_stored: 250,
            bytes_per_second: 2048,
            ..JobProgress::default()
        };
        let job = |job_id| Job {
            job_id,
            state: JobState::Running.into(),
            progress: Some(progress),
            state_reason: "waits for star-2".into(),
            ..Job::default()
        };
        let bulletin = Bulletin {
            severity: Severity::Error.into(),
            star_id: "star-2".into(),
            category: "liveness".into(),
            message: "star-2 is lost\u{1b}[2J".into(),
            repeat_count: 2,
            ..Bulletin::default()
        };
        let snapshot = Snapshot {
            stars: vec![star],
            jobs: (1..=3).rev().map(job).collect(),
            guards: vec![guard],
            bulletins: vec![bulletin],
        };
        View { snapshot, ..View::default() }
    }

    #[test]
    fn the_screen_shows_what_is_wrong_and_how_far_things_are() {
        let text = drawn(&view(), 160, 30);
        for part in [
            "1 Star, 3 jobs running, 6.0 KiB/s",
            "1 Star not heard",
            "12 dead letters",
            "star-2",
            "█████████░  90%",
            "1.0 GiB of 4.0 GiB",
            "cordoned",
            "███░░░░░░░  25%",
            "100 of 200",
            "waits for star-2",
            "star-2 is lost\\x1b[2J (3 times)",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn a_small_terminal_and_an_empty_grid_can_be_drawn() {
        drawn(&view(), 20, 4);
        drawn(&View::default(), 1, 1);
        assert!(drawn(&View::default(), 80, 24).contains("0 Stars, 0 jobs running"));
    }

    #[test]
    fn scrolling_ends_at_the_last_job_and_a_lost_coordinator_is_said() {
        let mut at = view();
        at.scroll = 99;
        at.is_lost = true;
        assert!(drawn(&at, 160, 30).contains("does not answer"));
        at.take(view().snapshot);
        assert_eq!((at.scroll, at.is_lost), (2, false));
    }
}
