//! How many items a coordinator dispatches and settles: its core alone, and the whole program through gRPC with Stars that
//! answer at once. And what Stars cost that only say that they live.
//!
//! The Stars are simulated in this process and share the machine with the coordinator, so the figures are a lower bound.

mod star;
mod whole;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use orbit_benches::core_alone;

/// Measures how fast a coordinator dispatches.
#[derive(Debug, Parser)]
#[command(name = "dispatch")]
struct Arguments {
    /// Items to move, one measurement each
    #[arg(long, value_delimiter = ',', default_value = "10000,100000,1000000")]
    items: Vec<u64>,
    /// Stars that take part, one measurement each
    #[arg(long, value_delimiter = ',', default_value = "1,100")]
    stars: Vec<u64>,
    /// Stars that do nothing but say that they live; 0 leaves this out
    #[arg(long, default_value_t = 0)]
    idle: u64,
    /// How long the idle Stars are watched, in seconds
    #[arg(long, default_value_t = 30)]
    idle_seconds: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print(&mut std::io::stderr(), &format!("error: cannot start threads: {error}"));
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(run(&arguments));
    ExitCode::SUCCESS
}

async fn run(arguments: &Arguments) {
    let out = &mut std::io::stdout();
    print(out, "| What | Stars | Items | Wall | Items a second | Coordinator CPU | its peak memory |");
    print(out, "|---|---|---|---|---|---|---|");
    for &items in &arguments.items {
        let wall = core_alone::measure(items);
        print(out, &row("core alone, no I/O", 1, items, wall, None));
    }
    for &stars in &arguments.stars {
        for &items in &arguments.items {
            let (wall, cost) = whole::measure(stars, items).await;
            print(out, &row("through gRPC, durable", stars, items, wall, Some(cost)));
        }
    }
    if arguments.idle > 0 {
        let time = Duration::from_secs(arguments.idle_seconds);
        let cost = whole::watch_idle(arguments.idle, time).await;
        print(out, &row("heartbeats only", arguments.idle, 0, time, Some(cost)));
    }
}

/// What the coordinator's process has used.
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
    // A reader that has gone away wants no more.
    let _ = writeln!(out, "{line}");
}
