//! Accepts connections.
//!
//! hyper by hand: poem's own server puts a lock and a dynamic call around every read and write, and has no limit on the
//! time that a request's head may take.

/// How long a client may take to send and to read.
mod pace;
/// How many connections there may be.
mod places;
/// What may be set.
pub mod settings;

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
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::pace::{Paced, Turns};
use self::places::Places;
use self::settings::ServerSettings;

/// Most that is kept of a request before it is understood: its head, or a part of its body.
const BUFFER_MAX_BYTES: usize = 64 * 1024;
/// Pause after a failed accept: file descriptors do not come back at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves HTTP/1.1 until `stop` is cancelled, then lets requests under way finish for a grace.
pub async fn serve(
    listener: TcpListener,
    endpoint: impl Endpoint<Output = Response> + 'static,
    settings: ServerSettings,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let local = listener.local_addr()?;
    let (grace, head, idle, write) = (settings.grace, settings.head, settings.idle, settings.write);
    let endpoint = Arc::new(endpoint);
    let (connections, places) = (TaskTracker::new(), Arc::new(Places::new(settings)));
    let end = CancellationToken::new();
    tracing::info!(server.addr = %local, "listening");
    while let Some((socket, remote)) = stop.run_until_cancelled(accept(&listener)).await {
        let place = match places.take(remote.ip()) {
            Ok(place) => place,
            Err(refusal) => {
                places.refuse(socket, refusal);
                continue;
            }
        };
        let turns = Arc::new(Turns::default());
        let socket = Paced::new(socket, turns.clone(), head, write);
        let connection = connection(socket, turns, (local, remote), endpoint.clone(), (idle, stop.clone()));
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

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((socket, remote)) => {
                let _ = socket.set_nodelay(true);
                return (socket, remote);
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
    socket: Paced<TcpStream>,
    turns: Arc<Turns>,
    (local, remote): (SocketAddr, SocketAddr),
    endpoint: Arc<impl Endpoint<Output = Response> + 'static>,
    (idle, stop): (Duration, CancellationToken),
) {
    let (local, remote) = (LocalAddr(local.into()), RemoteAddr(remote.into()));
    let service = service_fn(|request| {
        let request: Request = (request, local.clone(), remote.clone(), Scheme::HTTP).into();
        let (endpoint, turns) = (endpoint.clone(), turns.clone());
        async move {
            turns.next();
            let response = endpoint.get_response(request).await;
            turns.next();
            Ok::<hyper::Response<_>, Infallible>(response.into())
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(idle).max_buf_size(BUFFER_MAX_BYTES);
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
