//! The API over real HTTP, PostgreSQL and Redis.

mod api_keys;
mod auth;
mod health;
mod idempotency;
mod openapi;
mod problems;
mod support;
