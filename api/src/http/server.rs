//! Accepts connections.
//!
//! hyper by hand: poem's own server puts a lock and a dynamic call around every read and write, and has no limit on the
//! time that a request's head may take.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use millwork_shared::infra::tasks;
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Longest time until the head of a request has arrived, and so the longest rest of a kept-alive connection. Longer
/// than the minute that load balancers keep theirs, so that the one that closes is not us.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// Connections at once; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 16_384;
/// Pause after a failed accept: file descriptors do not come back at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves HTTP/1.1 until `stop` is cancelled, then lets requests under way finish for `grace`.
pub async fn serve(
    listener: TcpListener,
    endpoint: impl Endpoint<Output = Response> + 'static,
    stop: CancellationToken,
    grace: Duration,
) -> std::io::Result<()> {
    let local = listener.local_addr()?;
    let endpoint = Arc::new(endpoint);
    let (connections, room) = (TaskTracker::new(), Arc::new(Semaphore::new(MAX_CONNECTIONS)));
    let end = CancellationToken::new();
    tracing::info!(server.addr = %local, "listening");
    while let Some((socket, remote, place)) = stop.run_until_cancelled(accept(&listener, &room)).await {
        let connection = connection(socket, (local, remote), endpoint.clone(), stop.clone());
        let end = end.clone();
        tasks::detach(connections.track_future(async move {
            let _place = place;
            end.run_until_cancelled(connection).await;
        }));
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(grace, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests that did not finish in time are cut off");
        end.cancel();
        connections.wait().await;
    }
    Ok(())
}

/// The next connection, once there is room for it.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>) {
    loop {
        let place = room.clone().acquire_owned().await.ok();
        match listener.accept().await {
            Ok((socket, remote)) => {
                let _ = socket.set_nodelay(true);
                return (socket, remote, place);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection; after `stop`, until the request under way is answered.
async fn connection(
    socket: TcpStream,
    (local, remote): (SocketAddr, SocketAddr),
    endpoint: Arc<impl Endpoint<Output = Response> + 'static>,
    stop: CancellationToken,
) {
    let (local, remote) = (LocalAddr(local.into()), RemoteAddr(remote.into()));
    let service = service_fn(|request| {
        let request: Request = (request, local.clone(), remote.clone(), Scheme::HTTP).into();
        let endpoint = endpoint.clone();
        async move { Ok::<hyper::Response<_>, Infallible>(endpoint.get_response(request).await.into()) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}
