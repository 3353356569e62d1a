//! The runtime, from a ticket in Redis to the outcome in the ledger.

/// What a handler says, and what the ledger makes of it.
mod metrics;
mod outcomes;
/// What handlers say while they run.
mod reports;
/// Faults of handlers, reported.
mod sentry;
/// Slots and turns.
mod slots;
/// A worker in this process.
mod stage;
/// Cancellations, stops and lost leases.
mod stops;
