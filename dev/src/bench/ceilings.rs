//! What the machine does by itself: no product on it can be faster, and figures of two machines, or of two hours of one,
//! compare only beside these.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::figure::{Figure, rounded};
use super::report::Report;
use super::site::{self, Ground};
use super::{redis, statistics};
use crate::services::psql;
use crate::{command, interrupt, terminal};

const EACH: Duration = Duration::from_secs(2);
/// A page of PostgreSQL's log.
const PAGE: [u8; 8192] = [7; 8192];
const SEGMENT: u64 = 16 << 20;
const REDIS_CONNECTIONS: usize = 50;
const REDIS_PIPELINE: usize = 64;

pub fn measure(ground: &Ground, report: &mut Report) -> Result<()> {
    disk(site::commit_folder(ground), report)?;
    inserts(ground, report)?;
    redis_operations(ground, report)
}

fn disk(folder: &Path, report: &mut Report) -> Result<()> {
    let latencies = sync_latencies_ms(folder, EACH)?;
    let p99 = statistics::percentile(&latencies, 99.0);
    let rate = latencies.len() as f64 * 1000.0 / latencies.iter().sum::<f64>();
    let figure = Figure::new("machine.fdatasync", statistics::median(&latencies), "ms");
    report.add(figure.with("p99_ms", rounded(p99)).with("per_s", rounded(rate)));
    Ok(())
}

/// What bringing a page to the disk takes just now, in milliseconds: disks change within minutes.
pub fn sync_now_ms(ground: &Ground) -> Result<f64> {
    sync_latencies_ms(site::commit_folder(ground), EACH / 4).map(|latencies| statistics::median(&latencies))
}

/// One page after the other into a file of full length, each brought to the disk: what a commit does.
fn sync_latencies_ms(folder: &Path, length: Duration) -> Result<Vec<f64>> {
    let path = folder.join("fdatasync.probe");
    let latencies = sync_pages(&path, length).with_context(|| format!("cannot write {}", path.display()));
    let _ = fs::remove_file(&path);
    latencies
}

fn sync_pages(path: &Path, length: Duration) -> Result<Vec<f64>> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    for _ in 0..SEGMENT / PAGE.len() as u64 {
        file.write_all(&PAGE)?;
    }
    file.sync_all()?;
    let (started, mut latencies, mut position) = (Instant::now(), Vec::new(), 0);
    while started.elapsed() < length {
        interrupt::check()?;
        file.seek(SeekFrom::Start(position % SEGMENT))?;
        file.write_all(&PAGE)?;
        let before = Instant::now();
        file.sync_data()?;
        latencies.push(before.elapsed().as_secs_f64() * 1000.0);
        position += PAGE.len() as u64;
    }
    Ok(latencies)
}

/// By `pgbench`, into a table like that of the jobs, one transaction a statement.
fn inserts(ground: &Ground, report: &mut Report) -> Result<()> {
    let database = "millwork_ceilings";
    let mut admin = ground.psql("postgres")?;
    admin.rows(&format!("create database {database};"))?;
    ground.psql(database)?.rows("create table rows (id uuid primary key, payload text not null);")?;
    let payload = site::echo_job().replace('\'', "''");
    for (name, rows, clients) in
        [("one_row_1_client", 1, 1), ("one_row_64_clients", 1, 64), ("fifty_rows_10_clients", 50, 10)]
    {
        let script = ground.scratch.path().join(format!("{name}.sql"));
        let statement =
            format!("insert into rows select gen_random_uuid(), '{payload}' from generate_series(1, {rows});\n");
        fs::write(&script, statement)?;
        let mut pgbench = ground.postgres.command("pgbench");
        pgbench.args(["--no-vacuum", "--protocol=prepared"]).arg(format!("--client={clients}"));
        pgbench.arg(format!("--time={}", EACH.as_secs())).arg("--file").arg(&script);
        psql::as_superuser(&mut pgbench, &ground.services.postgres, database);
        let measured = command::capture(pgbench, "", EACH + Duration::from_secs(30))
            .and_then(|output| tps(&output).with_context(|| format!("pgbench printed no rate: {output}")));
        match measured {
            Ok(tps) => report.add(Figure::new(format!("machine.insert.{name}"), tps * f64::from(rows), "rows/s")),
            Err(error) => {
                interrupt::check()?;
                terminal::note(format!("machine.insert.{name} is not measured: {error:#}"));
            }
        }
    }
    admin.rows(&format!("drop database {database} with (force);"))?;
    Ok(())
}

fn tps(output: &str) -> Option<f64> {
    output.lines().find_map(|line| line.strip_prefix("tps = "))?.split(' ').next()?.parse().ok()
}

/// One command on each of many connections, then their answers; and the same on one connection without waiting.
fn redis_operations(ground: &Ground, report: &mut Report) -> Result<()> {
    let command = redis::encoded(&["SET", "probe", &"x".repeat(300)]);
    let open = || redis::Connection::open(&ground.services.redis);
    let connections = (0..REDIS_CONNECTIONS).map(|_| open()).collect::<Result<Vec<_>>>()?;
    let single = redis_rate(connections, &command, 1)?;
    report.add(Figure::new("machine.redis.set_50_clients", single, "ops/s"));
    let pipelined = redis_rate(vec![open()?], &command.repeat(REDIS_PIPELINE), REDIS_PIPELINE)?;
    report.add(Figure::new("machine.redis.set_pipelined", pipelined, "ops/s"));
    open()?.ask(&["DEL", "probe"])?;
    Ok(())
}

fn redis_rate(mut connections: Vec<redis::Connection>, commands: &str, each: usize) -> Result<f64> {
    let (started, mut done) = (Instant::now(), 0);
    while started.elapsed() < EACH / 2 {
        interrupt::check()?;
        connections.iter_mut().try_for_each(|connection| connection.send(commands.as_bytes()))?;
        for connection in &mut connections {
            for _ in 0..each {
                connection.answer()?;
            }
        }
        done += connections.len() * each;
    }
    Ok(done as f64 / started.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read_from_what_pgbench_prints() {
        let output = "latency average = 0.1 ms\ntps = 8712.345678 (without initial connection time)\n";
        assert_eq!(tps(output), Some(8712.345678));
        assert_eq!(tps("x\n"), None);
    }
}
