//! How each fault is brought about, and put right again.

mod clock;
mod network;
mod postgres;
mod processes;
mod redis;

use anyhow::Result;

use super::plan::{Fault, Stroke};
use super::site::Site;

/// What a stroke did.
pub enum Done {
    /// Whom it struck.
    Struck(String),
    /// Why it could not be done here.
    Skipped(String),
}

/// Strikes, and returns when all is as it was.
pub fn strike(site: &mut Site, stroke: &Stroke) -> Result<Done> {
    match stroke.fault {
        Fault::ApiKill | Fault::WorkerKill | Fault::LeaderKill => processes::kill(site, stroke),
        Fault::ApiHang | Fault::WorkerHang | Fault::LeaderHang => processes::hang(site, stroke),
        Fault::WorkersRoll => processes::roll(site, stroke),
        Fault::RedisKill => redis::kill(site, stroke),
        Fault::RedisRestart => redis::restart(site, stroke),
        Fault::RedisFlush => redis::flush(site),
        Fault::RedisFull => redis::full(site, stroke),
        Fault::RedisHang => redis::hang(site, stroke),
        Fault::PostgresKill => postgres::kill(site, stroke),
        Fault::PostgresRestart => postgres::restart(site, stroke),
        Fault::PostgresTerminate => postgres::terminate(site),
        Fault::PowerCut => postgres::power_cut(site, stroke),
        Fault::DiskFull => postgres::disk_full(site, stroke),
        Fault::ClockStep => clock::step(site, stroke),
        Fault::NetDelay | Fault::NetReset | Fault::NetHold | Fault::NetSilence | Fault::NetHalfOpen => {
            network::strike(site, stroke)
        }
    }
}
