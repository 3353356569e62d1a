//! PostgreSQL: killed, restarted, its clients cut off, its power cut, its disk full.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Result;

use super::Done;
use crate::chaos::clients;
use crate::chaos::plan::Stroke;
use crate::chaos::rest;
use crate::chaos::site::Site;
use crate::services::psql::Psql;
use crate::wait;

/// Replaying its log takes its time.
const RETURN_LIMIT: Duration = Duration::from_secs(120);

pub fn kill(site: &mut Site, stroke: &Stroke) -> Result<Done> {
    site.postgres.kill9()?;
    rest(stroke.lasts)?;
    site.postgres.restart()?;
    Ok(Done::Struck(format!("away for {:.1} s and its recovery", stroke.lasts.as_secs_f64())))
}

pub fn restart(site: &mut Site, stroke: &Stroke) -> Result<Done> {
    site.postgres.stop()?;
    rest(stroke.lasts)?;
    site.postgres.restart()?;
    Ok(Done::Struck("cleanly".to_owned()))
}

pub fn terminate(site: &mut Site) -> Result<Done> {
    let ended = site.psql()?.numbers::<1>(
        "select count(*) from (select pg_terminate_backend(pid) from pg_stat_activity where usename = 'millwork') t;",
    )?;
    Ok(Done::Struck(format!("{} sessions", ended[0])))
}

/// What was accepted until then must be in the copy, before anything else is written to it.
pub fn power_cut(site: &mut Site, stroke: &Stroke) -> Result<Done> {
    site.postgres.power_cut()?;
    let accepted = clients::accepted(site.folder())?;
    rest(stroke.lasts)?;
    site.postgres.restart()?;
    let stored = site.psql()?.rows("select id from jobs;")?;
    let stored: HashSet<&str> = stored.iter().filter_map(|row| Some(row.first()?.as_str())).collect();
    let missing = accepted.iter().filter(|id| !stored.contains(id.as_str())).count();
    Ok(Done::Struck(format!("{} accepted jobs compared, {missing} missing in the copy", accepted.len())))
}

/// Either its tables cannot grow, or there is no room for its log either, at which it gives up.
pub fn disk_full(site: &mut Site, stroke: &Stroke) -> Result<Done> {
    let volume = match &site.volume {
        Ok(volume) => volume,
        Err(why) => return Ok(Done::Skipped(why.clone())),
    };
    volume.fill()?;
    let log_too = stroke.pick.is_multiple_of(2);
    if log_too {
        // It may fail, and is meant to.
        let _ = Psql::connect(&site.binaries, &site.postgres, "millwork")
            .and_then(|mut psql| psql.rows("select pg_switch_wal();"));
    }
    let rested = rest(stroke.lasts);
    volume.empty()?;
    rested?;
    let gave_up = site.postgres.has_ended();
    if gave_up {
        site.postgres.restart()?;
    }
    // It may also be on its way back by itself.
    wait::until("the return of PostgreSQL after its disk was full", RETURN_LIMIT, || {
        Ok(site.psql().and_then(|mut psql| psql.rows("select 1;")).ok())
    })?;
    let (room, end) =
        (if log_too { "for anything" } else { "for tables" }, if gave_up { "; PostgreSQL gave up" } else { "" });
    Ok(Done::Struck(format!("no room {room} for {:.1} s{end}", stroke.lasts.as_secs_f64())))
}
