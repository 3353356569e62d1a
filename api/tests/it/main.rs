//! The API over real HTTP, PostgreSQL and Redis.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

mod admin;
mod alerts;
mod api_keys;
mod audit;
mod auth;
mod batches;
mod events;
mod flows;
mod health;
mod idempotency;
mod invitations;
mod jobs;
mod limits;
mod metrics;
mod openapi;
mod problems;
mod process;
mod queues;
mod quotas;
mod roles;
mod schedules;
mod sentry;
mod server;
mod support;
mod tenant;
mod tenant_isolation;
mod users;
mod webhooks;
