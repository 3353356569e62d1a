//! What the processes of Millwork must agree on: rows, rules, payloads, and the means to reach them.

/// What tenants want to be told of: jobs that fail, queues that fall behind.
pub mod alerts;
/// Who changed what, when and from where.
pub mod audit;
/// Passwords, tokens, API keys: what proves who is calling.
pub mod auth;
/// Jobs that were submitted together, and what runs when all have ended.
pub mod batches;
/// What may be called from here: rules on addresses and URLs given by third parties.
pub mod egress;
/// E-mail: whom it may go to, what it may say, and the job that sends it.
pub mod email;
/// The one domain error, mapped once to HTTP (api) and once to a retry decision (worker).
pub mod error;
/// Events that tenants publish, and their types.
pub mod events;
/// What tenants take out: rows of theirs as a file.
pub mod exports;
/// What is wrong with something that somebody gave.
pub mod fault;
/// What tenants have stored: names over versions of content.
pub mod files;
/// What health checks ask the database.
pub mod health;
/// Calls of a URL, made later.
pub mod http_requests;
/// First answers by `Idempotency-Key`.
pub mod idempotency;
/// What tenants bring in: rows of a file.
pub mod imports;
/// Database, Redis, configuration, clock, ids, secrets at rest, logs.
pub mod infra;
/// Asking people to join a tenant.
pub mod invitations;
/// Where a tenant's people and programs may come from.
pub mod ip_rules;
/// The heart: states, outcomes, retry policy, the ledger and the dispatcher.
pub mod jobs;
/// Work on the platform itself: partitions and retention.
pub mod maintenance;
/// Enums whose variants have names.
mod named;
/// Everything in storage, of whichever feature: a row an object.
pub mod objects;
/// Erasing people.
pub mod personal_data;
/// What a tenant may use in a month, and what it has used.
pub mod quotas;
/// Another master key.
pub mod rekey;
/// Jobs that come again by the clock of a place.
pub mod schedules;
/// The people who run the platform.
pub mod staff;
/// Tenants, and the roles people hold in them.
pub mod tenants;
/// Databases, clocks and peers for tests.
#[cfg(feature = "testing")]
#[expect(clippy::expect_used, reason = "a test that cannot be set up should say why and stop")]
pub mod testing;
/// Endpoints that want events, and the deliveries to them.
pub mod webhooks;

pub use error::{Category, Error, Result};
pub use fault::Fault;
pub(crate) use named::named;
