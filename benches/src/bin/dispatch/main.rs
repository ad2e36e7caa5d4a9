//! How many items a coordinator dispatches and settles: its core alone, and the whole program through gRPC with Stars
//! that answer at once. How the cost of an item grows with their number. And the cost of Stars that only send
//! heartbeats.
//!
//! The Stars are simulated in this process and share the machine with the coordinator, so the figures are a lower bound.

mod growth;
mod growth_chart;
mod star;
mod whole;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use orbit_benches::core_alone;

/// Measures how fast a coordinator dispatches.
#[derive(Debug, Parser)]
#[command(name = "dispatch")]
struct Arguments {
    /// Items to move, one measurement each [default: 10000,100000,1000000, with --growth 10000000 as well]
    #[arg(long, value_delimiter = ',')]
    items: Vec<u64>,
    /// Stars that take part, one measurement each; of --growth the first counts
    #[arg(long, value_delimiter = ',', default_value = "1,100")]
    stars: Vec<u64>,
    /// Compare the cost of an item at each number of items with that at the first
    #[arg(long)]
    growth: bool,
    /// Draw the growth into this file
    #[arg(long, requires = "growth")]
    svg: Option<PathBuf>,
    /// Stars that do nothing but say that they live; 0 leaves this out
    #[arg(long, default_value_t = 0)]
    idle: u64,
    /// How long the idle Stars are watched, in seconds
    #[arg(long, default_value_t = 30)]
    idle_seconds: u64,
    /// Watch the idle Stars only
    #[arg(long, requires = "idle", conflicts_with = "growth")]
    idle_only: bool,
}

impl Arguments {
    fn items(&self) -> &[u64] {
        match (&self.items[..], self.growth) {
            ([], false) => &[10_000, 100_000, 1_000_000],
            ([], true) => &[10_000, 100_000, 1_000_000, 10_000_000],
            (items, _) => items,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Every simulated Star is a connection here and one at the coordinator, which inherits the limit.
    if let Err(error) = orbit_program::open_files::raise_limit() {
        return fail(&error.to_string());
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start threads: {error}")),
    };
    if arguments.growth {
        if let Err(problem) = runtime.block_on(grow(&arguments)) {
            return fail(&problem);
        }
    } else {
        runtime.block_on(dispatch(&arguments));
    }
    ExitCode::SUCCESS
}

fn fail(problem: &str) -> ExitCode {
    print(&mut std::io::stderr(), &format!("error: {problem}"));
    ExitCode::FAILURE
}

async fn grow(arguments: &Arguments) -> Result<(), String> {
    let stars = arguments.stars.first().copied().unwrap_or(1);
    let points = growth::measure(stars, arguments.items()).await;
    print(&mut std::io::stdout(), &growth::table(&points));
    match &arguments.svg {
        Some(path) => growth_chart::draw(&points, path),
        None => Ok(()),
    }
}

async fn dispatch(arguments: &Arguments) {
    let out = &mut std::io::stdout();
    print(out, "| What | Stars | Items | Wall | Items a second | Coordinator CPU | its peak memory |");
    print(out, "|---|---|---|---|---|---|---|");
    if !arguments.idle_only {
        for &items in arguments.items() {
            let wall = core_alone::measure(items);
            print(out, &row("core alone, no I/O", 1, items, wall, None));
        }
        for &stars in &arguments.stars {
            for &items in arguments.items() {
                let (wall, cost) = whole::measure(stars, items).await;
                print(out, &row("through gRPC, durable", stars, items, wall, Some(cost)));
            }
        }
    }
    if arguments.idle > 0 {
        let time = Duration::from_secs(arguments.idle_seconds);
        let cost = whole::watch_idle(arguments.idle, time).await;
        print(out, &row("heartbeats only", arguments.idle, 0, time, Some(cost)));
    }
}

/// The resources that the coordinator's process has used.
#[derive(Debug, Clone, Copy)]
struct Cost {
    processor: Duration,
    peak_mebibytes: u64,
}

fn row(what: &str, stars: u64, items: u64, wall: Duration, cost: Option<Cost>) -> String {
    let rate = items as f64 / wall.as_secs_f64();
    let (processor, memory) = match cost {
        Some(cost) => {
            (format!("{:.2} s", cost.processor.as_secs_f64()), format!("{} MiB", cost.peak_mebibytes))
        }
        None => (String::new(), String::new()),
    };
    format!(
        "| {what} | {stars} | {items} | {:.2} s | {rate:.0} | {processor} | {memory} |",
        wall.as_secs_f64()
    )
}

fn print(out: &mut impl std::io::Write, line: &str) {
    // If the reader has gone away, it needs no more output.
    let _ = writeln!(out, "{line}");
}
