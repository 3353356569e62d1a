//! Clients who take their time.
//!
//! hyper has one limit for both the rest of a kept-alive connection and the arrival of a head, and none for a client
//! that does not read its answer. So that the rest may be long and a head must not, the socket itself watches.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// Whose turn it is on a connection: the client's when even, the server's, who works on a request, when odd.
#[derive(Debug, Default)]
pub struct Turns(AtomicU32);

impl Turns {
    pub fn next(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A socket whose client must send a head within a time once it has begun, and go on reading.
pub struct Paced<S> {
    socket: S,
    turns: Arc<Turns>,
    /// The turn in which was read last.
    turn: u32,
    head: Duration,
    /// When the head that is being read began.
    began: Option<Instant>,
    /// Runs while something is missing; most heads come whole, and need none.
    head_timer: Option<Pin<Box<Sleep>>>,
    write: Duration,
    write_timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    pub fn new(socket: S, turns: Arc<Turns>, head: Duration, write: Duration) -> Self {
        Self { socket, turns, turn: 0, head, began: None, head_timer: None, write, write_timer: None }
    }

    /// Passes on what became of a write, unless it has waited for too long.
    fn written<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.write_timer = None;
            return polled;
        }
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(sleep(self.write)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let turn = this.turns.get();
        if turn != this.turn {
            (this.turn, this.began, this.head_timer) = (turn, None, None);
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.socket).poll_read(cx, buf);
        if turn % 2 == 1 {
            return polled; // a body, which has its own limit, or a look whether the client is still there
        }
        if polled.is_ready() {
            if buf.filled().len() > before {
                this.began.get_or_insert_with(Instant::now);
            }
            return polled;
        }
        let Some(began) = this.began else { return Poll::Pending };
        let timer = this.head_timer.get_or_insert_with(|| Box::pin(sleep_until(began + this.head)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the head of a request did not arrive in time")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.socket).poll_write(cx, buf);
        this.written(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.socket).poll_write_vectored(cx, bufs);
        this.written(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
