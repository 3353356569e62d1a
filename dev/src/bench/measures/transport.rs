use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{ROUNDS, shown};
use crate::bench::Options;
use crate::bench::cpu::{Meter, Part};
use crate::bench::figure::{Figure, rounded};
use crate::bench::redis;
use crate::bench::report::Report;
use crate::bench::site::{Ground, pause};
use crate::bench::statistics::median;
use crate::workspace::Workspace;
use crate::{command, terminal};

const PROGRAM: &str = "millwork-transport";
const SIDES: [&str; 2] = ["millwork", "apalis"];
const LIMIT: Duration = Duration::from_secs(180);
const PUSHED: usize = 50_000;
const IN_BULK: usize = 100_000;
const CONSUMED: usize = 50_000;
/// When idle, in all rounds together.
const IDLE_PER_S: u64 = 50;

/// Ids through Redis, without the ledger: our dispatcher beside apalis-redis' `RedisStorage`, each under an apalis worker
/// whose handlers do nothing, by turns.
pub fn run(ground: &Ground, options: &Options, report: &mut Report) -> Result<()> {
    let program = program(ground)?;
    let idle = (options.length.as_secs() * IDLE_PER_S / u64::from(ROUNDS)).max(20) as usize;
    for (load, count) in [("push", PUSHED), ("bulk", IN_BULK), ("consume", CONSUMED)] {
        let [ours, theirs] = by_turns(ground, &program, load, count)?;
        let (rate, cpu) = ("per_s", "cpu_us");
        let figure =
            Figure::new(format!("transport.{load}.ratio_apalis"), ours.median(rate) / theirs.median(rate), "×");
        let figure = [("ours", &ours), ("theirs", &theirs)].into_iter().fold(figure, |figure, (whose, side)| {
            figure
                .with(&format!("{whose}_per_s"), rounded(side.median(rate)))
                .with(&format!("{whose}_rounds"), shown(&side.all(rate)))
                .with(&format!("{whose}_cpu_us"), rounded(side.median(cpu)))
        });
        report.add(figure.with("ids", count));
    }
    let [ours, theirs] = by_turns(ground, &program, "idle", idle)?;
    for name in ["p50_ms", "p99_ms"] {
        let short = name.trim_end_matches("_ms");
        report.add(
            Figure::new(format!("transport.idle_{short}"), ours.median(name), "ms")
                .with("rounds", shown(&ours.all(name)))
                .with("apalis_ms", rounded(theirs.median(name)))
                .with("apalis_rounds", shown(&theirs.all(name)))
                .with("per_s", IDLE_PER_S),
        );
    }
    Ok(())
}

/// Built when it is asked for: it takes what `cargo dev` does without.
fn program(ground: &Ground) -> Result<PathBuf> {
    let given = ground.bin_dir.join(PROGRAM);
    if given.is_file() {
        return Ok(given);
    }
    terminal::note(format!("building {PROGRAM} with optimisations"));
    Ok(Workspace::find()?.build(&["--package", PROGRAM, "--release"])?.join(PROGRAM))
}

/// What each round told.
struct Side(Vec<Value>);

impl Side {
    fn all(&self, name: &str) -> Vec<f64> {
        self.0.iter().map(|told| told[name].as_f64().unwrap_or(f64::NAN)).collect()
    }

    fn median(&self, name: &str) -> f64 {
        median(&self.all(name))
    }
}

fn by_turns(ground: &Ground, program: &PathBuf, load: &str, count: usize) -> Result<[Side; 2]> {
    let mut sides = [Side(Vec::new()), Side(Vec::new())];
    for _ in 0..ROUNDS {
        for (name, side) in SIDES.into_iter().zip(&mut sides) {
            redis::Connection::open(&ground.services.redis)?.ask(&["FLUSHALL"])?;
            pause(Duration::from_millis(200))?;
            let told = carry(ground, program, name, load, count).with_context(|| format!("{load} by {name}"))?;
            side.0.push(told);
        }
    }
    Ok(sides)
}

fn carry(ground: &Ground, program: &PathBuf, side: &str, load: &str, count: usize) -> Result<Value> {
    let redis = ground.services.redis.pid().map(|pid| Part { name: "redis", pid, with_children: false });
    let meter = Meter::start(redis.into_iter().collect());
    let mut command = Command::new(program);
    command.args([side, load, &count.to_string()]).env("REDIS_URL", ground.services.redis.url());
    let output = command::capture(command, "", LIMIT)?;
    let usage = meter.stop();
    let mut told: Value = serde_json::from_str(output.trim()).with_context(|| format!("it printed {output:?}"))?;
    let all: f64 = usage.us_per(count as f64).values().filter_map(Value::as_f64).sum(); // the program is this one's child
    told["cpu_us"] = rounded(all).into();
    Ok(told)
}
