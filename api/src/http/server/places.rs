//! How many connections there may be, and what the others are told.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millwork_shared::infra::tasks;
use poem::http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::settings::ServerSettings;
use crate::http::{ApiError, problem};
use crate::limits::network;
use crate::metrics::METRICS;

/// Refusals that are being told. Beyond that connections are closed without a word.
const MOST_TOLD: usize = 64;
/// How long a refused client may take to read it.
const TOLD_WITHIN: Duration = Duration::from_secs(1);
/// Of what a refused client sends, so much is read: closed with something unread, it would see a reset and no answer.
const READ_MAX_BYTES: u64 = 64 * 1024;

pub struct Places {
    settings: ServerSettings,
    taken: Mutex<Taken>,
    telling: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_network: HashMap<IpAddr, usize>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// For nobody.
    Full,
    /// For this address.
    Address,
}

/// A place, until it is dropped.
pub struct Place {
    places: Arc<Places>,
    /// Who is counted for it.
    network: Option<IpAddr>,
}

impl Places {
    pub fn new(settings: ServerSettings) -> Self {
        Self { settings, taken: Mutex::default(), telling: Arc::new(Semaphore::new(MOST_TOLD)) }
    }

    /// A place for a connection from `remote`. Trusted proxies may have as many as there are.
    ///
    /// # Errors
    /// There is none, or `remote` has its share.
    pub fn take(self: &Arc<Self>, remote: IpAddr) -> Result<Place, Refusal> {
        let remote = remote.to_canonical();
        let network = (!self.settings.proxies.contain(remote)).then(|| network(remote));
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= self.settings.connections {
            return Err(Refusal::Full);
        }
        if let Some(network) = network {
            let count = taken.by_network.entry(network).or_default();
            if *count >= self.settings.connections_per_address {
                return Err(Refusal::Address);
            }
            *count += 1;
        }
        taken.all += 1;
        METRICS.connections.inc();
        Ok(Place { places: self.clone(), network })
    }

    fn give_back(&self, network: Option<IpAddr>) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        if let Some(network) = network
            && let Some(count) = taken.by_network.get_mut(&network)
        {
            *count -= 1;
            if *count == 0 {
                taken.by_network.remove(&network);
            }
        }
        METRICS.connections.dec();
    }

    /// Says why, whatever was asked, and closes.
    pub fn refuse(&self, mut socket: TcpStream, refusal: Refusal) {
        let reason = match refusal {
            Refusal::Full => "full",
            Refusal::Address => "address",
        };
        METRICS.connections_refused.with_label_values(&[reason]).inc();
        let Ok(telling) = self.telling.clone().try_acquire_owned() else { return };
        tasks::detach(async move {
            let _telling = telling;
            let tell = async {
                socket.write_all(&problem::over_the_wire(&refusal.error())).await?;
                socket.shutdown().await?;
                tokio::io::copy(&mut (&mut socket).take(READ_MAX_BYTES), &mut tokio::io::sink()).await
            };
            let _ = tokio::time::timeout(TOLD_WITHIN, tell).await;
        });
    }
}

impl Refusal {
    fn error(self) -> ApiError {
        match self {
            Self::Full => ApiError::unavailable("the server has as many connections as it may have; try again", 1),
            Self::Address => {
                let detail = "your address has too many connections; close some, or use those that are open again";
                ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_connections", detail)
                    .with_header(poem::http::header::RETRY_AFTER, 1.into())
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.give_back(self.network);
    }
}
