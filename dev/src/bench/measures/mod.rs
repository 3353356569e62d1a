//! Contents page: everything that is measured, in the order in which it is.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::Options;
use super::figure::rounded;
use super::report::Report;
use super::site::Ground;

mod both;
mod drain;
mod events;
mod export;
mod fair;
mod files;
mod footprint;
mod growth;
mod latency;
mod peers;
mod scale;
mod soak;
mod submit;
mod sweep;
mod tickets;
mod transport;

/// One measurement, with servers, processes and database to itself.
pub struct Measure {
    pub name: &'static str,
    pub what: &'static str,
    pub needs: Needs,
    pub run: fn(&Ground, &Options, &mut Report) -> Result<()>,
}

/// What a measurement takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    /// The load generator.
    ManyClients,
    /// The load generator, and so much time that it must be asked for by name.
    ManyClientsAndTime,
}

pub const ALL: [Measure; 16] = [
    Measure { name: "submit", what: "POST /jobs from 64 connections, no worker", needs: MANY, run: submit::run },
    Measure { name: "drain", what: "100,000 waiting jobs, one worker", needs: Needs::Nothing, run: drain::run },
    Measure { name: "both", what: "64 connections submit while one worker keeps pace", needs: MANY, run: both::run },
    Measure { name: "latency", what: "submit to start at 50 a second", needs: Needs::Nothing, run: latency::run },
    Measure { name: "events", what: "event to delivery", needs: MANY, run: events::run },
    Measure { name: "fair", what: "one tenant beside another's flood", needs: Needs::Nothing, run: fair::run },
    Measure { name: "memory", what: "resident memory, and what idleness costs", needs: MANY, run: footprint::run },
    Measure { name: "redis", what: "what jobs cost in Redis", needs: Needs::Nothing, run: tickets::run },
    Measure {
        name: "transport",
        what: "ids through Redis, by apalis-redis too",
        needs: Needs::Nothing,
        run: transport::run,
    },
    Measure { name: "peers", what: "the same loads on BullMQ and Fastify", needs: MANY, run: peers::run },
    Measure { name: "growth", what: "with more and more finished jobs", needs: MANY, run: growth::run },
    Measure {
        name: "scale",
        what: "many processes on a Redis Cluster, and the loss of a node",
        needs: Needs::Nothing,
        run: scale::run,
    },
    Measure { name: "files", what: "a GiB up and down", needs: Needs::Nothing, run: files::run },
    Measure { name: "export", what: "a million jobs into a file", needs: Needs::Nothing, run: export::run },
    Measure { name: "sweep", what: "storage with 100,000 objects", needs: Needs::Nothing, run: sweep::run },
    Measure { name: "soak", what: "half load for long", needs: Needs::ManyClientsAndTime, run: soak::run },
];

const MANY: Needs = Needs::ManyClients;

impl Measure {
    pub fn takes_many_clients(&self) -> bool {
        self.needs != Needs::Nothing
    }

    /// Whether it is measured when nothing is named.
    pub fn is_usual(&self) -> bool {
        self.needs != Needs::ManyClientsAndTime
    }
}

pub fn names() -> String {
    ALL.map(|measure| measure.name).join(", ")
}

/// Rounds of which the median counts.
const ROUNDS: u32 = 3;

/// `length` in rounds, of whole seconds, as the load generator wants them.
fn round_length(length: Duration) -> Duration {
    Duration::from_secs(length.as_secs().div_ceil(ROUNDS.into()).max(1))
}

/// Rounds, for a figure.
fn shown(values: &[f64]) -> Vec<Value> {
    values.iter().copied().map(rounded).map(Value::from).collect()
}
