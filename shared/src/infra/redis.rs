//! Redis, reached by connections that come back by themselves.

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};

use crate::{Error, Result};

/// Longest wait for one answer. The crate's own default, 500 ms, is shorter than a busy server's hiccup.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A handle that is cheap to clone; every clone shares one multiplexed connection.
pub type Redis = ConnectionManager;

/// Opens the shared connection lazily: Redis may be down now and come back.
pub fn connect_lazy(client: &redis::Client) -> Result<Redis> {
    manager(client, RESPONSE_TIMEOUT)
}

/// A connection of its own for blocking commands that wait up to `block`.
pub fn connect_blocking(client: &redis::Client, block: Duration) -> Result<Redis> {
    manager(client, block + RESPONSE_TIMEOUT)
}

fn manager(client: &redis::Client, response_timeout: Duration) -> Result<Redis> {
    let config = ConnectionManagerConfig::new()
        .set_response_timeout(Some(response_timeout))
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_max_delay(Duration::from_secs(1))
        .set_number_of_retries(1);
    ConnectionManager::new_lazy_with_config(client.clone(), config).map_err(unavailable)
}

/// Every failure of Redis is a failure of a dependency: nothing that matters is kept in it.
pub fn unavailable(error: redis::RedisError) -> Error {
    Error::Unavailable { dependency: "redis", cause: error.to_string() }
}
