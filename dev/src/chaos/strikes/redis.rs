//! Redis: killed, restarted, wiped, full, hung.

use std::time::Duration;

use anyhow::Result;

use super::Done;
use crate::chaos::member::Role;
use crate::chaos::plan::Stroke;
use crate::chaos::rest;
use crate::chaos::site::Site;

/// Less than a heartbeat.
const GATHER: Duration = Duration::from_secs(2);

pub fn kill(site: &mut Site, stroke: &Stroke) -> Result<Done> {
    site.redis.kill9()?;
    rest(stroke.lasts)?;
    site.redis.restart()?;
    Ok(Done::Struck(format!("away for {:.1} s", stroke.lasts.as_secs_f64())))
}

pub fn restart(site: &mut Site, stroke: &Stroke) -> Result<Done> {
    site.redis.stop()?;
    rest(stroke.lasts)?;
    site.redis.restart()?;
    Ok(Done::Struck("cleanly".to_owned()))
}

/// With the workers held still for a moment before it, so that there is something to forget.
pub fn flush(site: &mut Site) -> Result<Done> {
    let workers = site.of(Role::Worker);
    for &worker in &workers {
        site.members[worker].process()?.sigstop()?;
    }
    let flushed = rest(GATHER).and_then(|()| {
        let mut connection = site.redis_connection()?;
        let keys = connection.ask(&["DBSIZE"])?;
        connection.ask(&["FLUSHALL"]).map(|_| keys)
    });
    for &worker in &workers {
        site.members[worker].process()?.sigcont()?;
    }
    Ok(Done::Struck(format!("{} keys", flushed?)))
}

/// Every write is refused, as when nothing may be evicted.
pub fn full(site: &mut Site, stroke: &Stroke) -> Result<Done> {
    let mut connection = site.redis_connection()?;
    connection.ask(&["CONFIG", "SET", "maxmemory", "1"])?;
    let rested = rest(stroke.lasts);
    connection.ask(&["CONFIG", "SET", "maxmemory", "0"])?;
    rested?;
    Ok(Done::Struck(format!("{:.1} s", stroke.lasts.as_secs_f64())))
}

pub fn hang(site: &mut Site, stroke: &Stroke) -> Result<Done> {
    site.redis.freeze()?;
    let rested = rest(stroke.lasts);
    site.redis.thaw()?;
    rested?;
    Ok(Done::Struck(format!("{:.1} s", stroke.lasts.as_secs_f64())))
}
