use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::bench::Options;
use crate::bench::figure::{Figure, Target, rounded};
use crate::bench::report::Report;
use crate::bench::site::{Ground, Site, pause};
use crate::bench::tenant;

/// Fills the window of one tenant and overflows it.
const OF_ONE: usize = 3_000;
const TENANTS: usize = 50;
const OF_EACH: usize = 400;
const FINISHED: usize = 100_000;
/// Ids that wait, in their order.
const READY: &str = "mw:{default}:ready";
const SETTLE: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(300);

/// What jobs leave in Redis: an id while they wait, up to a window a tenant, and nothing once they have ended.
pub fn run(ground: &Ground, _: &Options, report: &mut Report) -> Result<()> {
    let mut site = Site::open(ground)?;
    site.submit_batches(&site.key, 1)?; // the scripts are in, once
    let (bytes, held) = fill(&mut site, |site| site.submit_batches(&site.key, OF_ONE).map(drop))?;
    report.add(
        Figure::new("redis.waiting_one_tenant", bytes / held, "B/job")
            .with("submitted", OF_ONE)
            .with("in_redis", held)
            .with("bytes", bytes),
    );

    let keys = tenant::add(&mut site.psql, TENANTS)?;
    let (bytes, held) =
        fill(&mut site, |site| keys.iter().try_for_each(|key| site.submit_batches(key, OF_EACH).map(drop)))?;
    report.add(
        Figure::new("redis.waiting_many_tenants", bytes / held, "B/job")
            .with("tenants", TENANTS)
            .with("in_redis", held)
            .with("bytes", bytes),
    );

    site.start_ready_worker()?;
    site.submit_batches(&site.key, 1_000)?;
    let before = settled(&mut site)?;
    site.submit_batches(&site.key, FINISHED)?;
    let after = settled(&mut site)?;
    let keys = site.redis.ask(&["DBSIZE"])?.parse::<f64>().context("DBSIZE is no number")?;
    report.add(
        Figure::new("redis.finished", ((after - before) / FINISHED as f64).max(0.0).floor(), "B/job")
            .target(Target::AtMost(0.0))
            .with("jobs", FINISHED)
            .with("grown_bytes", rounded(after - before))
            .with("keys_left", keys),
    );
    Ok(())
}

/// Bytes that `submit` added, and ids that wait because of it.
fn fill(site: &mut Site<'_>, submit: impl FnOnce(&Site<'_>) -> Result<()>) -> Result<(f64, f64)> {
    let (bytes, waiting) = (site.redis.dataset_bytes()?, waiting(site)?);
    submit(site)?;
    pause(SETTLE)?;
    let (bytes, held) = (site.redis.dataset_bytes()? - bytes, self::waiting(site)? - waiting);
    ensure!(held > 0.0, "no id of a waiting job is in {READY}");
    Ok((bytes, held))
}

fn waiting(site: &mut Site<'_>) -> Result<f64> {
    site.redis.ask(&["ZCARD", READY])?.parse().context("ZCARD is no number")
}

/// Bytes in Redis once nothing waits or runs.
fn settled(site: &mut Site<'_>) -> Result<f64> {
    site.wait_until_idle(LIMIT)?;
    pause(SETTLE)?;
    ensure!(waiting(site)? == 0.0, "ids of ended jobs are in {READY}");
    site.redis.dataset_bytes()
}
