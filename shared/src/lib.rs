//! What the processes of Millwork must agree on: rows, rules, payloads, and the means to reach them.

/// The one domain error, mapped once to HTTP (api) and once to a retry decision (worker).
pub mod error;
/// Database, Redis, configuration, clock, ids, secrets at rest, logs.
pub mod infra;
/// The heart: states, outcomes, retry policy, the ledger and the dispatcher.
pub mod jobs;
/// Work on the platform itself: partitions and retention.
pub mod maintenance;
/// Tenants, and the roles people hold in them.
pub mod tenants;
/// Databases, clocks and peers for tests.
#[cfg(feature = "testing")]
pub mod testing;

pub use error::{Error, Result};
