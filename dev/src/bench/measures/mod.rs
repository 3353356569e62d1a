//! Contents page: everything that is measured, in the order in which it is.

use std::time::Duration;

use anyhow::Result;

use super::report::Report;
use super::site::Ground;

mod both;
mod drain;
mod events;
mod footprint;
mod latency;
mod submit;
mod tickets;

/// One measurement, with servers, processes and database to itself.
pub struct Measure {
    pub name: &'static str,
    pub what: &'static str,
    /// Takes the load generator.
    pub many_clients: bool,
    pub run: fn(&Ground, Duration, &mut Report) -> Result<()>,
}

pub const ALL: [Measure; 7] = [
    Measure { name: "submit", what: "POST /jobs from 64 connections, no worker", many_clients: true, run: submit::run },
    Measure { name: "drain", what: "100,000 waiting jobs, one worker", many_clients: false, run: drain::run },
    Measure {
        name: "both",
        what: "64 connections submit while one worker keeps pace",
        many_clients: true,
        run: both::run,
    },
    Measure { name: "latency", what: "submit to start at 50 a second", many_clients: false, run: latency::run },
    Measure { name: "events", what: "event to delivery", many_clients: true, run: events::run },
    Measure { name: "memory", what: "resident memory of each process", many_clients: true, run: footprint::run },
    Measure {
        name: "redis",
        what: "what waiting and finished jobs cost in Redis",
        many_clients: false,
        run: tickets::run,
    },
];

pub fn names() -> String {
    ALL.map(|measure| measure.name).join(", ")
}

/// Rounds of which the median counts.
const ROUNDS: u32 = 3;

/// `length` in rounds, of whole seconds, as the load generator wants them.
fn round_length(length: Duration) -> Duration {
    Duration::from_secs(length.as_secs().div_ceil(ROUNDS.into()).max(1))
}
