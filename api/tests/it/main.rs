//! The API over real HTTP, PostgreSQL and Redis.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

mod admin;
mod alerts;
mod api_keys;
mod audit;
mod auth;
mod batches;
mod browsers;
mod events;
mod exports;
mod files;
mod flows;
mod fuzz;
mod health;
mod idempotency;
mod imports;
mod invitations;
mod ip_rules;
mod jobs;
mod limits;
mod metrics;
mod openapi;
mod personal_data;
mod problems;
mod process;
mod proxies;
mod queues;
mod quotas;
mod rekey;
mod roles;
mod schedules;
mod secrets;
mod sentry;
mod server;
mod support;
mod tenant;
mod tenant_isolation;
mod users;
mod webhooks;
