//! Redis: killed, restarted, wiped, full, hung.

use anyhow::Result;

use super::Done;
use crate::chaos::plan::Stroke;
use crate::chaos::rest;
use crate::chaos::site::Site;

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

pub fn flush(site: &mut Site) -> Result<Done> {
    let mut connection = site.redis_connection()?;
    let keys = connection.ask(&["DBSIZE"])?;
    connection.ask(&["FLUSHALL"])?;
    Ok(Done::Struck(format!("{keys} keys")))
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
