//! Names to addresses that were checked.
//!
//! A name is refused when *any* of its addresses is: a name that has a public and a private address is somebody's attempt
//! to get the private one called. The connection is made to the very addresses checked here, so a name that changes its
//! mind between check and call (DNS rebinding) gains nothing.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use millwork_shared::egress::AllowedNets;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

/// How a name is looked up.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// Look-ups under way at most. Each holds a thread of the system's resolver until that gives up, whatever our deadline.
const LOOKUPS: usize = 256;

/// The system's own resolver.
pub fn system_lookup() -> Lookup {
    let permits = Arc::new(Semaphore::new(LOOKUPS));
    Arc::new(move |name| {
        let permits = permits.clone();
        async move {
            let permit = permits.acquire_owned().await.map_err(io::Error::other)?;
            let lookup = tokio::task::spawn_blocking(move || {
                let _held_by_the_thread = permit;
                (name.as_str(), 0).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect())
            });
            lookup.await.map_err(io::Error::other)?
        }
        .boxed()
    })
}

/// What a name resolved to must not be called.
#[derive(Debug, thiserror::Error)]
#[error("{name} resolves to {address}, which must not be called: {why}")]
pub(super) struct Refused {
    name: String,
    address: IpAddr,
    why: &'static str,
}

/// The resolver given to the HTTP client.
pub(super) struct Checked {
    nets: Arc<AllowedNets>,
    lookup: Lookup,
}

impl Checked {
    pub fn new(nets: AllowedNets, lookup: Lookup) -> Self {
        Self { nets: Arc::new(nets), lookup }
    }
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        let (nets, found) = (self.nets.clone(), (self.lookup)(name.clone()));
        Box::pin(async move {
            let found = found.await?;
            if found.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, format!("{name} has no address")).into());
            }
            if let Some((&address, why)) = found.iter().find_map(|address| Some(address).zip(nets.refusal(*address))) {
                return Err(Refused { name, address, why }.into());
            }
            let addrs: Addrs = Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addrs)
        })
    }
}
