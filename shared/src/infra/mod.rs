//! The plumbing under every feature.

/// The time, which tests may move.
pub mod clock;
/// Command-line flags and environment, with every fault named at once.
pub mod config;
/// Secrets at rest: AEAD under a rotating key ring; hashes of tokens.
pub mod crypto;
/// PostgreSQL: one pool, four doors (tenant, identity, staff, system).
pub mod db;
/// Free space of the volumes that a process writes to.
pub mod disk;
/// Whether a process can serve, and each thing it depends on.
pub mod health;
/// UUIDv7 newtypes.
pub mod ids;
/// Figures for Prometheus.
pub mod metrics;
/// Networks as people write them.
pub mod networks;
/// What a caught panic says, and where it was.
pub mod panics;
/// Redis by one multiplexed connection that reconnects by itself.
pub mod redis;
/// Faults built in on purpose, in debug builds alone.
pub mod sabotage;
/// SIGTERM and SIGINT as a token.
pub mod shutdown;
/// Where the bytes of objects are.
pub mod storage;
/// Tasks that keep their span and whose panics are seen.
pub mod tasks;
/// Logs, traces, reports of faults.
pub mod telemetry;
