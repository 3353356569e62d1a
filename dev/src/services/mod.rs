//! Private PostgreSQL and Redis servers: on free loopback ports, apart from any the system runs, stopped with their
//! value and dying with this process.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! let scratch = millwork_dev::scratch::Scratch::new("crash")?;
//! let mut services = millwork_dev::services::Services::start(scratch.path())?;
//! let database = services.postgres.url(); // role and database `millwork`, no superuser
//! services.postgres.kill9()?; // as if the power had failed
//! services.postgres.restart()?; // same port, same data
//! # Ok(())
//! # }
//! ```

use std::path::Path;

use anyhow::Result;

pub use identity::IdentityProviders;
pub use postgres::Postgres;
pub use redis::Redis;
pub use redis_cluster::RedisCluster;

/// Where the servers' binaries are.
pub mod find;
/// Installs what is missing, by the system's package manager.
pub mod install;
/// The ordinary user PostgreSQL runs as when the caller is root.
pub mod owner;
/// Free ports that stay free across a restart.
pub mod ports;

/// A `psql` that is kept running.
pub mod psql;
/// A plain connection to Redis.
pub mod redis_client;

mod identity;
mod postgres;
mod redis;
mod redis_cluster;
mod server;

/// Both servers, kept in `redis` and `postgres` under one folder.
#[derive(Debug)]
pub struct Services {
    pub redis: Redis,
    pub postgres: Postgres,
}

impl Services {
    /// Starts both, on the data that an earlier run left in `dir` if there is any.
    pub fn start(dir: &Path) -> Result<Self> {
        Ok(Self { redis: Redis::start(&dir.join("redis"))?, postgres: Postgres::start(&dir.join("postgres"))? })
    }
}
