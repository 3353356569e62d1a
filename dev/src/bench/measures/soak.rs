use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::round_length;
use crate::bench::chart::{self, Line, Panel};
use crate::bench::figure::{Figure, Target, readable, rounded};
use crate::bench::ledger::{self, Course};
use crate::bench::report::Report;
use crate::bench::sink::now_ns;
use crate::bench::site::{DATABASE, Ground, Site};
use crate::bench::statistics::{Change, median};
use crate::bench::{Options, cpu, memory, tenant};
use crate::terminal;
use crate::workspace::Workspace;

const WARM_UP: Duration = Duration::from_secs(2);
const DRAIN_LIMIT: Duration = Duration::from_secs(120);
/// Lines of the table, about.
const SLICES: u64 = 120;
const SHORTEST_SLICE: Duration = Duration::from_secs(3);
const LONGEST_SLICE: Duration = Duration::from_secs(60);
/// Memory may grow by a tenth, or this much where there is little of it.
const MEMORY: (f64, f64) = (0.1, 4.0);
/// Latency may grow by a quarter, or a millisecond.
const LATENCY: (f64, f64) = (0.25, 1.0);

/// Half of what submitters and one worker can do at once, for as long as asked, while a transaction that nobody ends keeps
/// PostgreSQL from clearing up. Memory and latency over time, as a table and a plot.
pub fn run(ground: &Ground, options: &Options, report: &mut Report) -> Result<()> {
    let folder = folder(options)?;
    let mut site = Site::open(ground)?;
    site.start_ready_worker()?;
    let rate = capacity(&mut site, round_length(options.length))? / 2.0;
    site.wait_until_idle(DRAIN_LIMIT)?;

    let slice = Duration::from_secs((options.soak.as_secs() / SLICES).max(1)).clamp(SHORTEST_SLICE, LONGEST_SLICE);
    terminal::note(format!(
        "{} jobs/s for {} min, in slices of {} s",
        readable(rate),
        options.soak.as_secs() / 60,
        slice.as_secs()
    ));
    let mut idle = ground.psql(DATABASE)?;
    idle.rows("begin isolation level repeatable read; select txid_current();")?; // with a snapshot, and an id
    let (began, meter) = (Instant::now(), site.meter());
    let (mut samples, mut jobs) = (Vec::new(), 0.0);
    while began.elapsed() < options.soak {
        crate::interrupt::check()?;
        let sample = Sample::take(&mut site, ground, rate, slice, began)?;
        jobs += sample.submitted;
        samples.push(sample);
        save(&folder, &samples)?; // what was seen is kept, whatever comes
    }
    let usage = meter.stop();
    idle.rows("rollback;")?;
    site.wait_until_idle(DRAIN_LIMIT)?;
    terminal::note(format!("the table and the plot are in {}", folder.display()));

    let per_s: Vec<f64> = samples.iter().map(|sample| sample.values[0]).collect();
    report.add(
        Figure::new("soak.rate", median(&per_s), "jobs/s")
            .with("asked_for", rounded(rate))
            .with("minutes", options.soak.as_secs() / 60)
            .with("jobs", jobs)
            .with("others_percent", rounded(usage.others_percent)),
    );
    report.add(cpu::figure("soak.cpu", &[usage], jobs));
    flatness(&samples, report);
    Ok(())
}

/// What comes in, or goes out if that is less, when nobody holds back.
fn capacity(site: &mut Site<'_>, length: Duration) -> Result<f64> {
    site.submit(None, WARM_UP)?;
    site.wait_until_idle(DRAIN_LIMIT)?;
    let began_ns = now_ns();
    site.submit(None, length.max(WARM_UP))?;
    let course = Course::between(&mut site.psql, began_ns, now_ns())?;
    Ok(course.finished_per_s.min(course.submitted_per_s))
}

fn folder(options: &Options) -> Result<PathBuf> {
    let folder = match &options.out {
        Some(folder) => folder.clone(),
        None => Workspace::find()?.root.join(".dev/bench"),
    };
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// The columns of the table after the time. The first letters of a unit's name end it.
const COLUMNS: [&str; 14] = [
    "submitted_per_s",
    "answer_p50_ms",
    "answer_p99_ms",
    "answer_max_ms",
    "wait_p50_ms",
    "wait_p99_ms",
    "backlog_jobs",
    "api_mb",
    "scheduler_mb",
    "worker_mb",
    "redis_mb",
    "live_table_mb",
    "live_dead_rows",
    "errors",
];
/// Those that should stay as they are, with what they may grow by and, of memory, what it should be.
const STEADY: [(&str, (f64, f64), Option<f64>); 6] = [
    ("answer_p99_ms", LATENCY, None),
    ("wait_p99_ms", LATENCY, None),
    ("api_mb", MEMORY, Some(64.0)),
    ("worker_mb", MEMORY, Some(64.0)),
    ("scheduler_mb", MEMORY, Some(32.0)),
    ("redis_mb", MEMORY, None),
];

/// What was seen in one slice.
struct Sample {
    /// Since the beginning, at the slice's end.
    at_s: f64,
    submitted: f64,
    /// By [`COLUMNS`].
    values: [f64; COLUMNS.len()],
}

impl Sample {
    fn take(site: &mut Site<'_>, ground: &Ground, rate: f64, length: Duration, began: Instant) -> Result<Self> {
        let from_ns = now_ns();
        let seen = site.submit(Some(rate), length)?;
        let at_s = began.elapsed().as_secs_f64();
        let mb = |pid: Option<u32>| pid.and_then(memory::resident).map_or(f64::NAN, |resident| resident.now_mb);
        let mut pids = site.processes().map(|process| Some(process.pid()));
        let [api, scheduler, worker] = [(); 3].map(|()| mb(pids.next().flatten()));
        drop(pids);
        let redis = mb(ground.services.redis.pid());
        let tenant = tenant::of(&site.key);
        let waits = ledger::waits_ms_of(&mut site.psql, &tenant, from_ns, now_ns())?;
        let [backlog, table_bytes, dead] = site.psql.numbers(
            "select (select count(*) from job_live), pg_total_relation_size('job_live'),
                    (select n_dead_tup from pg_stat_user_tables where relname = 'job_live');",
        )?;
        let values = [
            seen.per_s,
            seen.p50_ms,
            seen.p99_ms,
            seen.max_ms,
            waits[0],
            waits[1],
            backlog,
            api,
            scheduler,
            worker,
            redis,
            table_bytes / 1e6,
            dead,
            seen.errors(),
        ];
        Ok(Self { at_s, submitted: seen.requests, values })
    }
}

/// All samples of a column.
fn column(samples: &[Sample], name: &str) -> Vec<(f64, f64)> {
    let index = COLUMNS.iter().position(|column| *column == name).unwrap_or_default();
    samples.iter().map(|sample| (sample.at_s, sample.values[index])).collect()
}

fn flatness(samples: &[Sample], report: &mut Report) {
    let mut grown = Vec::new();
    for (name, (share, slack), limit) in STEADY {
        let values: Vec<f64> = column(samples, name).into_iter().map(|(_, value)| value).collect();
        let change = Change::of(&values);
        let flat = change.is_within(share, slack);
        if !flat {
            grown.push(name);
        }
        let (what, unit) = name.rsplit_once('_').unwrap_or((name, ""));
        let unit = if unit == "mb" { "MB" } else { "ms" };
        let figure = Figure::new(format!("soak.{what}"), change.last, unit);
        let figure = limit.map_or(figure.clone(), |limit| figure.target(Target::Below(limit)));
        report.add(figure.with("in_the_first_quarter", rounded(change.first)).with("flat", flat));
    }
    report.add(
        Figure::new("soak.grown", grown.len() as f64, "of memory and latency")
            .target(Target::AtMost(0.0))
            .with("which", grown),
    );
}

fn save(folder: &Path, samples: &[Sample]) -> Result<()> {
    for (name, text) in [("soak.csv", table(samples)), ("soak.svg", plot(samples))] {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn table(samples: &[Sample]) -> String {
    let mut text = format!("seconds,{}\n", COLUMNS.join(","));
    for sample in samples {
        let values =
            sample.values.map(|value| if value.is_finite() { rounded(value).to_string() } else { String::new() });
        let _ = writeln!(text, "{:.1},{}", sample.at_s, values.join(","));
    }
    text
}

fn plot(samples: &[Sample]) -> String {
    let panel = |title, names: &[(&'static str, &'static str)]| Panel {
        title,
        lines: names.iter().map(|(name, shown)| Line { name: shown, points: column(samples, name) }).collect(),
    };
    let panels = [
        panel(
            "resident memory, MB",
            &[("api_mb", "api"), ("worker_mb", "worker"), ("scheduler_mb", "scheduler"), ("redis_mb", "Redis")],
        ),
        panel(
            "latency, ms",
            &[
                ("answer_p50_ms", "answer p50"),
                ("answer_p99_ms", "answer p99"),
                ("wait_p50_ms", "submit to start p50"),
                ("wait_p99_ms", "submit to start p99"),
            ],
        ),
        panel("jobs submitted a second", &[("submitted_per_s", "submitted")]),
        panel("jobs that wait or run", &[("backlog_jobs", "backlog")]),
        panel("dead rows of live jobs, kept by the idle transaction", &[("live_dead_rows", "dead rows")]),
    ];
    chart::svg("Half load, with an idle transaction held open", &panels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(last_mb: f64) -> Vec<Sample> {
        let sample = |index: usize| {
            let mut values = [1.0; COLUMNS.len()];
            values[COLUMNS.iter().position(|name| *name == "api_mb").unwrap()] = if index < 6 { 20.0 } else { last_mb };
            values[5] = f64::NAN;
            Sample { at_s: index as f64 * 5.0, submitted: 1.0, values }
        };
        (0..8).map(sample).collect()
    }

    #[test]
    fn what_grows_is_named() {
        for (last_mb, grown) in [(21.0, 0.0), (40.0, 1.0)] {
            let mut report = Report::new(false);
            flatness(&samples(last_mb), &mut report);
            let figure = |name: &str| report.figures().iter().find(|figure| figure.name == name).unwrap().clone();
            assert_eq!((figure("soak.grown").value, figure("soak.api").value), (grown, last_mb));
            assert_eq!(figure("soak.api").with["flat"], (grown == 0.0));
        }
    }

    #[test]
    fn the_table_has_a_line_a_sample_and_the_plot_every_line() {
        let samples = samples(20.0);
        let table = table(&samples);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 1 + samples.len());
        assert!(lines.iter().all(|line| line.split(',').count() == 1 + COLUMNS.len()), "{table}");
        assert!(lines[1].starts_with("0.0,1,1,1,1,1,,1,20,"), "{}", lines[1]); // not seen: empty
        let plot = plot(&samples);
        assert!(plot.contains(">api<") && plot.contains(">backlog<") && !plot.contains("NaN"), "{plot}");
    }

    #[test]
    fn every_steady_value_is_a_column() {
        for (name, ..) in STEADY {
            assert!(COLUMNS.contains(&name), "{name}");
        }
    }
}
