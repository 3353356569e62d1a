//! Accepts connections.

use std::time::Duration;

use poem::http::uri::Scheme;
use poem::listener::{Acceptor, TcpAcceptor};
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, Response, Server};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// A connection on which nothing happens for so long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// Serves until `stop` is cancelled, then lets requests under way finish for `grace`.
pub async fn serve(
    listener: TcpListener,
    endpoint: impl Endpoint<Output = Response> + 'static,
    stop: CancellationToken,
    grace: Duration,
) -> std::io::Result<()> {
    let acceptor = Connections(TcpAcceptor::from_tokio(listener)?);
    Server::new_with_acceptor(acceptor)
        .name("api")
        .idle_timeout(IDLE_TIMEOUT)
        .run_with_graceful_shutdown(endpoint, stop.cancelled_owned(), Some(grace))
        .await
}

/// TCP connections without Nagle's delay, accepted without a hot loop when file descriptors run out.
struct Connections(TcpAcceptor);

impl Acceptor for Connections {
    type Io = TcpStream;

    fn local_addr(&self) -> Vec<LocalAddr> {
        self.0.local_addr()
    }

    async fn accept(&mut self) -> std::io::Result<(Self::Io, LocalAddr, RemoteAddr, Scheme)> {
        match self.0.accept().await {
            Ok(accepted) => {
                let _ = accepted.0.set_nodelay(true);
                Ok(accepted)
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                Err(error)
            }
        }
    }
}
