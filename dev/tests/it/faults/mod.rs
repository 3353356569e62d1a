//! The promises of the design, one file for each thing that breaks.

mod api;
mod control;
mod files;
mod mail;
mod metrics;
mod network;
mod postgres;
mod redis;
mod redis_cluster;
mod schedulers;
mod workers;
