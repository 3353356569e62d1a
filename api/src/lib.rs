//! The HTTP API of Millwork.

/// What the platform's staff see and do.
pub mod admin;
/// What tenants want to be told of.
pub mod alerts;
/// Keys of programs.
pub mod api_keys;
mod app;
/// Who changed what.
pub mod audit;
/// Who is calling, and how one becomes someone.
pub mod auth;
/// Jobs that are counted together.
pub mod batches;
/// Flags and environment.
pub mod config;
/// Events and their types.
pub mod events;
/// What tenants take out.
pub mod exports;
/// Files that people and programs store.
pub mod files;
/// Whether this process, and what it depends on, can serve.
pub mod health;
/// The plumbing under every endpoint.
pub mod http;
/// What tenants bring in.
pub mod imports;
/// Asking people to join the tenant.
pub mod invitations;
/// Where a tenant's people and programs may come from.
pub mod ip_rules;
/// Work that is done later.
pub mod jobs;
/// How much a caller may ask for.
pub mod limits;
/// Figures for Prometheus.
pub mod metrics;
/// Sweeping storage at once.
pub mod objects;
/// Classes of work, and pausing them.
pub mod queues;
/// What a tenant may use by its plan.
pub mod quotas;
/// Another master key.
pub mod rekey;
/// What may be done, and by whom.
pub mod roles;
/// Contents page: every endpoint.
pub mod routes;
/// From a checked configuration to a server, and back.
pub mod run;
/// Jobs that come again by the clock of a place.
pub mod schedules;
/// The tenant itself.
pub mod tenants;
/// The members of a tenant.
pub mod users;
/// Endpoints that want events, and the deliveries to them.
pub mod webhooks;

/// Live worker processes.
pub mod workers;

pub use app::{App, Parts};
pub use routes::app;
