//! A whole Millwork of a test's own: its stores, its processes, a tenant, and third parties that answer when told.

mod client;
mod cluster;
mod collector;
mod gate;
mod load;
mod mail_server;
mod member;
mod redis;

pub use client::{Client, echo, retrying};
pub use cluster::Cluster;
pub use collector::{Collector, Span};
pub use gate::{Ending, Gate};
pub use load::Load;
pub use mail_server::MailServer;
pub use member::Member;
pub use millwork_dev::wire::Wire;
pub use redis::redis;

use std::time::Duration;

use millwork_dev::wait;

/// For what has no promised time: long enough for a busy machine.
pub const SOON: Duration = Duration::from_secs(60);
/// A lease and the heartbeat before it, the scheduler's look, and a second start on a busy machine.
pub const LEASE_OVER: Duration = Duration::from_secs(30);

/// Waits until `condition` holds; fails with `what` when it has not come about within `limit`.
pub fn wait_for(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    if let Err(error) = wait::until(what, limit, || Ok(condition().then_some(()))) {
        panic!("{error:#}");
    }
}
