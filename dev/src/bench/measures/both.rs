use std::time::Duration;

use anyhow::Result;

use crate::bench::Options;
use crate::bench::cpu::Usage;
use crate::bench::figure::{Figure, Target, rounded};
use crate::bench::ledger::{self, Course};
use crate::bench::load::{CONNECTIONS, Seen};
use crate::bench::report::Report;
use crate::bench::sink::now_ns;
use crate::bench::site::{Ground, Site};
use crate::terminal;

const WARM_UP: Duration = Duration::from_secs(2);
/// Of a load before its course counts.
const RUN_IN: Duration = Duration::from_secs(1);
const DRAIN_LIMIT: Duration = Duration::from_secs(120);
const SEARCH_STEPS: u32 = 5;
const LAST_TRIES: u32 = 4;

/// The rate at which jobs come in and go out alike: submitters that outrun the worker are slowed down until they do not.
pub fn run(ground: &Ground, options: &Options, report: &mut Report) -> Result<()> {
    let length = options.length;
    let mut site = Site::open(ground)?;
    site.start_ready_worker()?;
    site.submit(None, WARM_UP)?;

    let step = (length / 2).max(Duration::from_secs(3));
    let free = Trial::run(&mut site, None, step)?;
    let rate = if free.course.is_flat() { None } else { Some(search(&mut site, &free.course, step)?) };
    let mut last = Trial::run(&mut site, rate, length)?;
    for _ in 0..LAST_TRIES {
        if last.course.is_flat() {
            break;
        }
        let middle = (last.course.submitted_per_s + last.course.finished_per_s) / 2.0;
        last = Trial::run(&mut site, Some(middle.min(last.course.submitted_per_s * 0.95)), length)?;
    }
    let Trial { course, seen, usage, waits_ms, .. } = last;
    report.add(
        Figure::new("both.rate", course.finished_per_s.min(course.submitted_per_s), "jobs/s")
            .target(Target::AtLeast(10_000.0))
            .with("connections", CONNECTIONS)
            .with("submitted_per_s", rounded(course.submitted_per_s))
            .with("finished_per_s", rounded(course.finished_per_s))
            .with("growth_per_s", rounded(course.growth_per_s))
            .with("flat", course.is_flat())
            .with("last_backlog", course.last_backlog())
            .with("unthrottled_submitted_per_s", rounded(free.course.submitted_per_s))
            .with("unthrottled_finished_per_s", rounded(free.course.finished_per_s))
            .with("others_percent", rounded(usage.others_percent)),
    );
    report.add(
        Figure::new("both.p99", seen.p99_ms, "ms")
            .target(Target::Below(15.0))
            .with("p50_ms", seen.p50_ms)
            .with("errors", seen.errors()),
    );
    report.add(Figure::new("both.wait_p99", waits_ms[1], "ms").with("p50_ms", waits_ms[0]));
    let jobs = seen.requests;
    report.add(Figure::new("both.cpu", usage.total_us_per(jobs), "µs/job").with("each", usage.us_per(jobs)));
    Ok(())
}

/// The highest rate found at which the backlog does not grow, between what was finished and what was submitted when
/// nobody held back.
fn search(site: &mut Site<'_>, free: &Course, step: Duration) -> Result<f64> {
    let (mut flat, mut growing) = (free.finished_per_s.min(free.submitted_per_s), free.submitted_per_s);
    for _ in 0..SEARCH_STEPS {
        let middle = (flat + growing) / 2.0;
        let trial = Trial::run(site, Some(middle), step)?;
        if trial.course.is_flat() {
            flat = middle;
        } else {
            growing = middle;
        }
        if trial.course.is_flat() && trial.course.submitted_per_s < middle * 0.93 {
            break; // it is the submitters that cannot go faster
        }
        if growing - flat < growing * 0.03 {
            break;
        }
    }
    Ok(flat)
}

struct Trial {
    course: Course,
    seen: Seen,
    usage: Usage,
    /// From intake to start, percentiles 50 and 99.
    waits_ms: [f64; 2],
}

impl Trial {
    /// Begins without a backlog.
    fn run(site: &mut Site<'_>, rate: Option<f64>, length: Duration) -> Result<Self> {
        site.wait_until_idle(DRAIN_LIMIT)?;
        let began_ns = now_ns() + RUN_IN.as_nanos() as u64;
        let meter = site.meter();
        let seen = site.submit(rate, length + RUN_IN)?;
        let usage = meter.stop();
        let ended_ns = began_ns + length.as_nanos() as u64;
        let course = Course::between(&mut site.psql, began_ns, ended_ns)?;
        site.wait_until_idle(DRAIN_LIMIT)?;
        let waits_ms = ledger::waits_ms(&mut site.psql, began_ns, ended_ns)?;
        terminal::note(format!(
            "{}: {:.0} in and {:.0} out a second, backlog {:+.0} a second to {:.0}; p99 {:.1} ms",
            rate.map_or("as fast as they can".to_owned(), |rate| format!("held to {rate:.0}")),
            course.submitted_per_s,
            course.finished_per_s,
            course.growth_per_s,
            course.last_backlog(),
            seen.p99_ms
        ));
        Ok(Self { course, seen, usage, waits_ms })
    }
}
