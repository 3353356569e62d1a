//! Bodies that are read as they come, however large.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use poem::http::StatusCode;
use tokio::time::{Instant, Sleep, sleep_until};

use super::error::ApiError;

/// A client sends so much at least in so long: what it takes to hold a connection for nothing. Only waiting counts; while
/// storage is slow nobody waits for the client.
const PACE: (u64, Duration) = (16 * 1024, Duration::from_secs(30));
/// What is read of a form around its file, at most.
pub const FORM_BYTES: u64 = 256 * 1024;
/// A body that is refused is read on for a while, so that the client gets to see the answer and not a reset.
pub const DRAIN: (u64, Duration) = (4 * 1024 * 1024, Duration::from_secs(2));

/// A body as it comes. Whoever stops reading it holds back the client.
pub struct Streamed {
    body: Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>,
    /// Bytes that may still come; see [`Budget`].
    budget: Budget,
    /// Bytes of this lap, and the waiting that it has left.
    lap: (u64, Duration),
    /// Since when, and until when, is waited for the client.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    /// Whether the next look lets others go first, so that a reader that takes all there is takes one piece at a time.
    yields: bool,
}

/// What may come before somebody says more: a parser that looks for the end of a form's head keeps all that came.
#[derive(Debug, Clone)]
pub struct Budget(Arc<AtomicU64>);

impl Budget {
    pub fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    fn spend(&self, bytes: u64) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }
}

/// Why a body ended before its end.
#[derive(Debug)]
pub enum Fault {
    CutOff(String),
    TooSlow,
    HeadTooLong,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutOff(why) => write!(f, "the body broke off: {why}"),
            Self::TooSlow => f.write_str("the body comes too slowly: less than 16 KiB in 30 s"),
            Self::HeadTooLong => f.write_str("the form has more than 256 KiB before or after its file"),
        }
    }
}

impl std::error::Error for Fault {}

impl From<&Fault> for ApiError {
    fn from(fault: &Fault) -> Self {
        match fault {
            Fault::CutOff(_) => Self::malformed("body_cut_off", fault.to_string()),
            Fault::TooSlow => Self::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", fault.to_string()),
            Fault::HeadTooLong => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", fault.to_string()),
        }
    }
}

impl Streamed {
    pub fn new(body: poem::Body) -> Self {
        let body = Box::pin(body.into_bytes_stream());
        let budget = Budget(Arc::new(AtomicU64::new(u64::MAX)));
        Self { body, budget, lap: (0, PACE.1), waiting: None, yields: false }
    }

    pub fn budget(&self) -> Budget {
        self.budget.clone()
    }

    /// Reads on for a while, and throws it away.
    pub async fn drain(mut self) {
        self.budget.set(DRAIN.0);
        let _ = tokio::time::timeout(DRAIN.1, async { while let Some(Ok(_)) = self.next().await {} }).await;
    }
}

impl Stream for Streamed {
    type Item = Result<Bytes, Fault>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.yields) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let chunk = match self.body.poll_next_unpin(cx) {
            Poll::Ready(chunk) => chunk,
            Poll::Pending => {
                let left = self.lap.1;
                let now = Instant::now();
                let (_, timer) = self.waiting.get_or_insert_with(|| (now, Box::pin(sleep_until(now + left))));
                return timer.as_mut().poll(cx).map(|()| Some(Err(Fault::TooSlow)));
            }
        };
        if let Some((since, _)) = self.waiting.take() {
            self.lap.1 = self.lap.1.saturating_sub(since.elapsed());
        }
        let chunk = match chunk {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(Fault::CutOff(error.to_string())))),
            Some(Ok(chunk)) => chunk,
        };
        self.lap.0 += chunk.len() as u64;
        if self.lap.0 >= PACE.0 {
            self.lap = (0, PACE.1);
        }
        if !self.budget.spend(chunk.len() as u64) {
            return Poll::Ready(Some(Err(Fault::HeadTooLong)));
        }
        self.yields = true;
        Poll::Ready(Some(Ok(chunk)))
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    fn body(chunks: impl Stream<Item = Bytes> + Send + 'static) -> Streamed {
        Streamed::new(poem::Body::from_bytes_stream(chunks.map(Ok::<_, std::io::Error>)))
    }

    /// Comes every `every`, for ever.
    fn drops(chunk: &'static [u8], every: Duration) -> impl Stream<Item = Bytes> + Send {
        stream::unfold((), move |()| async move {
            tokio::time::sleep(every).await;
            Some((Bytes::from_static(chunk), ()))
        })
    }

    async fn end(mut body: Streamed) -> Option<Fault> {
        while let Some(chunk) = body.next().await {
            if let Err(fault) = chunk {
                return Some(fault);
            }
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_by_drops_is_given_up_and_one_that_is_slow_is_not() {
        let began = Instant::now();
        assert!(matches!(end(body(drops(b"x", Duration::from_secs(5)))).await, Some(Fault::TooSlow)));
        assert_eq!(began.elapsed().as_secs(), 30);
        let slow = drops(&[0; 16 * 1024], Duration::from_secs(29)).take(100);
        assert!(end(body(slow)).await.is_none());
        assert!(matches!(end(body(stream::pending())).await, Some(Fault::TooSlow)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_slowly_does_not_wait_for_the_client() {
        let mut body = body(drops(b"x", Duration::from_secs(1)).take(20));
        while let Some(chunk) = body.next().await {
            chunk.unwrap();
            tokio::time::sleep(Duration::from_secs(100)).await;
        }
    }

    #[tokio::test]
    async fn no_more_is_read_than_was_allowed() {
        let body = body(stream::repeat(Bytes::from_static(&[0; 1_000])));
        body.budget().set(10_500);
        assert!(matches!(end(body).await, Some(Fault::HeadTooLong)));
    }
}
