use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::bench::connection::Connection;
use crate::bench::figure::{Figure, Target, rounded};
use crate::bench::report::Report;
use crate::bench::site::{Ground, Site};
use crate::bench::{Options, memory, tenant};
use crate::secret;

const OBJECTS: usize = 100_000;
/// Time in which they came, as their ids and files say; the last of them two days ago.
const SPREAD: Duration = Duration::from_secs(10 * 86_400);
const AGE: Duration = Duration::from_secs(2 * 86_400);
const LIMIT: Duration = Duration::from_secs(600);

/// A sweep of a folder with 100,000 objects: once when all is as it should be, and once when a tenth each has no row, has no
/// object, or was deleted and is due.
pub fn run(ground: &Ground, _: &Options, report: &mut Report) -> Result<()> {
    let mut site = Site::open(ground)?;
    site.psql.rows("update api_keys set permissions = permissions || '{jobs:cleanup}';")?;
    let tenant = site.psql.rows(&format!("{};", tenant::of(&site.key)))?;
    let tenant = tenant.into_iter().flatten().next().context("there is no tenant")?;
    let folder = ground.objects().join(&tenant);
    let ids = fill(&mut site, &folder, &tenant)?;
    site.psql.rows("vacuum analyze objects;")?;
    site.start_ready_worker()?;

    let (s, result) = sweep(&mut site)?;
    ensure!(result["objects"] == OBJECTS && result["rows"] == OBJECTS, "{result}");
    tell(report, &site, "sweep.compare", s, &result);

    mess_up(&mut site, &folder, &tenant, &ids)?;
    let (s, result) = sweep(&mut site)?;
    let tenth = OBJECTS / 10;
    for finding in ["orphans", "missing", "deleted"] {
        ensure!(result["found"][finding] == tenth, "{finding}: {result}");
    }
    tell(report, &site, "sweep.clear", s, &result);
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
}

fn tell(report: &mut Report, site: &Site<'_>, name: &str, s: f64, result: &Value) {
    let peak = site.worker.as_ref().and_then(|worker| memory::resident(worker.pid()));
    report.add(
        Figure::new(name, s, "s")
            .target(Target::AtMost(60.0))
            .with("objects_per_s", rounded(OBJECTS as f64 / s))
            .with("found", result["found"].clone())
            .with("worker_peak_mb", peak.map(|resident| rounded(resident.peak_mb))),
    );
}

/// Sweeps, and answers the seconds that it took and what it found.
fn sweep(site: &mut Site<'_>) -> Result<(f64, Value)> {
    let began = Instant::now();
    let answer = Connection::open(&site.address, &site.key)?.post("/api/v1/files/sweep", "{}")?;
    let answer: Value = serde_json::from_slice(&answer)?;
    let id = answer["data"]["id"].as_str().context("the answer has no job")?;
    site.wait_until_idle(LIMIT)?;
    let s = began.elapsed().as_secs_f64();
    let rows = site
        .psql
        .rows(&format!("select state || ' ' || coalesce(result::text, '') from job_outcomes where id = '{id}';"))?;
    let row = rows.into_iter().flatten().next().context("the sweep has no outcome")?;
    let result = row.strip_prefix("succeeded ").with_context(|| format!("the sweep ended as {row}"))?;
    Ok((s, serde_json::from_str(result)?))
}

/// Objects with their rows. Answers their ids.
fn fill(site: &mut Site<'_>, folder: &Path, tenant: &str) -> Result<Vec<String>> {
    let last = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.saturating_sub(AGE);
    let step = SPREAD / OBJECTS as u32;
    let ids: Vec<String> =
        (0..OBJECTS).map(|n| id(last.saturating_sub(step * (OBJECTS - n) as u32))).collect::<Result<_>>()?;
    for chunk in ids.chunks(5_000) {
        // An export, since it takes nothing of a quota that all rows would have to update.
        site.psql.rows(&format!(
            "insert into objects (tenant_id, id, purpose, state, size_bytes, sha256)
             select '{tenant}', id::uuid, 'export', 'stored', 4, '\\x00' from unnest('{{{}}}'::text[]) id;",
            chunk.join(",")
        ))?;
        chunk.iter().try_for_each(|id| put(folder, id))?;
    }
    Ok(ids)
}

fn mess_up(site: &mut Site<'_>, folder: &Path, tenant: &str, ids: &[String]) -> Result<()> {
    let tenth = OBJECTS / 10;
    for n in 0..tenth {
        put(
            folder,
            &id(SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)?
                .saturating_sub(AGE + SPREAD * n as u32 / tenth as u32))?,
        )?;
        let lost = &ids[n * 10];
        fs::remove_file(folder.join(&lost[..6]).join(lost))?;
    }
    let due: Vec<&str> = ids.iter().skip(1).step_by(10).map(String::as_str).collect();
    for chunk in due.chunks(5_000) {
        site.psql.rows(&format!(
            "update objects set state = 'deleted', delete_after = ledger_now() - interval '1 s'
              where tenant_id = '{tenant}' and id = any ('{{{}}}'::uuid[]);",
            chunk.join(",")
        ))?;
    }
    Ok(())
}

/// A small object that is as old as they all are.
fn put(folder: &Path, id: &str) -> Result<()> {
    let shard = folder.join(&id[..6]);
    fs::create_dir_all(&shard)?;
    let path = shard.join(id);
    fs::write(&path, "0000").with_context(|| format!("cannot write {}", path.display()))?;
    Ok(File::options().write(true).open(path)?.set_modified(SystemTime::now() - AGE)?)
}

/// A UUIDv7 of that time.
fn id(at: Duration) -> Result<String> {
    let mut bytes = secret::random::<16>()?;
    bytes[..6].copy_from_slice(&(at.as_millis() as u64).to_be_bytes()[2..]);
    bytes[6] = 0x70 | bytes[6] & 0x0f;
    bytes[8] = 0x80 | bytes[8] & 0x3f;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_its_time_in_front() {
        let id = id(Duration::from_millis(0x0123_4567_89ab)).unwrap();
        assert!(id.starts_with("01234567-89ab-7"), "{id}");
        assert_eq!(id.len(), 36);
    }
}
