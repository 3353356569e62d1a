use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::bench::connection::Connection;
use crate::bench::figure::{Figure, Target, rounded};
use crate::bench::report::Report;
use crate::bench::site::{Ground, Site};
use crate::bench::{Options, history, memory};

const ROWS: u64 = 1_000_000;
const LIMIT: Duration = Duration::from_secs(300);

/// A million finished jobs of one tenant, to a file on disk.
pub fn run(ground: &Ground, _: &Options, report: &mut Report) -> Result<()> {
    let mut site = Site::open(ground)?;
    site.psql.rows("update api_keys set permissions = permissions || '{exports:write,jobs:read}';")?;
    history::fill_for(&mut site.psql, ROWS, std::slice::from_ref(&site.key))?;
    site.start_ready_worker()?;
    for (name, form, target) in [
        ("export.csv", r#""format":"csv""#, Some(Target::AtLeast(100_000.0))),
        ("export.ndjson", r#""format":"ndjson""#, None),
        ("export.csv_gzip", r#""format":"csv","compress":"gzip""#, None),
    ] {
        let began = Instant::now();
        let body = format!(r#"{{"resource":"jobs",{form},"filters":{{"kind":"echo"}}}}"#);
        let answer = Connection::open(&site.address, &site.key)?.post("/api/v1/exports", &body)?;
        let answer: Value = serde_json::from_slice(&answer)?;
        let id = answer["data"]["id"].as_str().context("the answer has no export")?;
        site.wait_until_idle(LIMIT)?;
        let s = began.elapsed().as_secs_f64();
        let [rows, bytes] =
            site.psql.numbers(&format!("select exported, coalesce(size_bytes, 0) from exports where id = '{id}';"))?;
        ensure!(rows == ROWS as f64, "{rows} rows were exported");
        let figure = Figure::new(name, rows / s, "rows/s").with("mb_per_s", rounded(bytes / s / f64::from(1 << 20)));
        report.add(match target {
            Some(target) => figure.target(target),
            None => figure,
        });
    }
    let worker = site.worker.as_ref().context("there is no worker")?;
    if let Some(resident) = memory::resident(worker.pid()) {
        report.add(Figure::new("export.worker_peak", rounded(resident.peak_mb), "MB").target(Target::AtMost(96.0)));
    }
    Ok(())
}
