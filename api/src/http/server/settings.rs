//! What may be set about connections.

use std::time::Duration;

use clap::Args;
use millwork_shared::infra::config::Faults;

use crate::http::proxies::TrustedProxies;

/// How many connections there may be, and how slow.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// How long requests under way may take to finish after a stop.
    pub grace: Duration,
    /// From the first byte of a request to the end of its head.
    pub head: Duration,
    /// Between requests, and before the first.
    pub idle: Duration,
    /// How long a client may read nothing of an answer.
    pub write: Duration,
    pub connections: usize,
    /// By one address (of IPv6 by one /64), but for trusted proxies.
    pub connections_per_address: usize,
    pub proxies: TrustedProxies,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(25),
            head: Duration::from_secs(10),
            // Longer than the minute of load balancers, so that they are the ones who close.
            idle: Duration::from_secs(75),
            write: Duration::from_secs(30),
            connections: 16_384,
            connections_per_address: 2_048,
            proxies: TrustedProxies::default(),
        }
    }
}

#[derive(Debug, Args)]
pub struct ServerArgs {
    /// Seconds that running requests may take to finish after SIGTERM [default: 25]
    #[arg(long, env = "SHUTDOWN_GRACE_S")]
    shutdown_grace_s: Option<String>,
    /// Connections at once [default: 16384]
    #[arg(long, env = "MAX_CONNECTIONS")]
    max_connections: Option<String>,
    /// Connections at once by one address that is no trusted proxy [default: 2048]
    #[arg(long, env = "MAX_CONNECTIONS_PER_ADDRESS")]
    max_connections_per_address: Option<String>,
    /// Seconds from the first byte of a request to the end of its head [default: 10]
    #[arg(long, env = "HTTP_HEAD_TIMEOUT_S")]
    http_head_timeout_s: Option<String>,
    /// Seconds that a connection may rest between requests [default: 75]
    #[arg(long, env = "HTTP_IDLE_TIMEOUT_S")]
    http_idle_timeout_s: Option<String>,
    /// Seconds that a client may read nothing of its answer [default: 30]
    #[arg(long, env = "HTTP_WRITE_TIMEOUT_S")]
    http_write_timeout_s: Option<String>,
}

impl ServerArgs {
    pub fn read(&self, proxies: &TrustedProxies, faults: &mut Faults) -> ServerSettings {
        let usual = ServerSettings::default();
        let seconds = |text: &str| between(text, 1, 3_600).map(Duration::from_secs);
        let count = |text: &str| between(text, 1, 1_000_000).map(|n| n as usize);
        let grace = |text: &str| between(text, 0, u16::MAX.into()).map(Duration::from_secs);
        let mut or = |name, text, parse: &dyn Fn(&str) -> Result<Duration, String>, usual| {
            faults.optional(name, text, parse).unwrap_or(usual)
        };
        let grace = or("SHUTDOWN_GRACE_S", &self.shutdown_grace_s, &grace, usual.grace);
        let head = or("HTTP_HEAD_TIMEOUT_S", &self.http_head_timeout_s, &seconds, usual.head);
        let idle = or("HTTP_IDLE_TIMEOUT_S", &self.http_idle_timeout_s, &seconds, usual.idle);
        let write = or("HTTP_WRITE_TIMEOUT_S", &self.http_write_timeout_s, &seconds, usual.write);
        let all = faults.optional("MAX_CONNECTIONS", &self.max_connections, count);
        let one = faults.optional("MAX_CONNECTIONS_PER_ADDRESS", &self.max_connections_per_address, count);
        ServerSettings {
            grace,
            head,
            idle,
            write,
            connections: all.unwrap_or(usual.connections),
            connections_per_address: one.unwrap_or(usual.connections_per_address),
            proxies: proxies.clone(),
        }
    }
}

fn between(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let number = text.parse().map_err(|_| format!("`{text}` is not a whole number"))?;
    if (least..=most).contains(&number) { Ok(number) } else { Err(format!("{number} is not in {least} to {most}")) }
}
