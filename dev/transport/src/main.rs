//! `millwork-transport SIDE LOAD COUNT`: carries ids through the Redis of `REDIS_URL` and prints what it took as one line
//! of JSON. `cargo dev bench transport` calls it by turns for both sides.
//!
//! SIDE is `millwork`, the dispatcher under an apalis worker, or `apalis`, RedisStorage under the same worker. LOAD is
//! - `push`: one id a call, 64 calls at a time;
//! - `bulk`: a thousand ids a call;
//! - `consume`: a handler that does nothing with ids that wait, [`WAITING`] at a time;
//! - `idle`: one id now and then, from the moment before the push to the start of its handler.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use queue::Queue;

mod apalis;
mod millwork;
mod queue;

/// Calls at a time.
const CALLERS: usize = 64;
const BULK: usize = 1_000;
/// Ids that wait when a worker begins: RedisStorage cannot fetch any more once some 8,000 are due.
const WAITING: usize = 5_000;
/// Ids a second when there is little to do.
const PER_S: f64 = 50.0;
/// Of the first of them nothing is told.
const WARM_UP: usize = 50;
const LIMIT: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let [side, load, count] = arguments.as_slice() else { bail!("takes SIDE LOAD COUNT") };
        let count: usize = count.parse().with_context(|| format!("{count:?} is no count"))?;
        let url = std::env::var("REDIS_URL").context("REDIS_URL is not set")?;
        let told = match side.as_str() {
            "millwork" => measure(&millwork::Dispatched::open(&url)?, load, count).await?,
            "apalis" => measure(&apalis::Stored::open(&url).await?, load, count).await?,
            other => bail!("{other:?} is no side"),
        };
        println!("{told}");
        Ok(())
    })
}

async fn measure<Q: Queue>(queue: &Q, load: &str, count: usize) -> Result<Value> {
    match load {
        "push" => push(queue, count).await,
        "bulk" => bulk(queue, count).await,
        "consume" => consume(queue, count).await,
        "idle" => idle(queue, count).await,
        other => bail!("{other:?} is no load"),
    }
}

async fn push<Q: Queue>(queue: &Q, count: usize) -> Result<Value> {
    let began = Instant::now();
    let caller = |caller: usize| async move {
        for number in (caller..count).step_by(CALLERS) {
            queue.push(number..number + 1).await?;
        }
        anyhow::Ok(())
    };
    try_join_all((0..CALLERS).map(caller)).await?;
    Ok(rate(count, began.elapsed()))
}

async fn bulk<Q: Queue>(queue: &Q, count: usize) -> Result<Value> {
    let began = Instant::now();
    fill(queue, count).await?;
    Ok(rate(count, began.elapsed()))
}

async fn fill<Q: Queue>(queue: &Q, count: usize) -> Result<()> {
    for first in (0..count).step_by(BULK) {
        queue.push(first..(first + BULK).min(count)).await?;
    }
    Ok(())
}

/// Until `count` are through, in backlogs of [`WAITING`]. The time is that from the first handler of a backlog to its last.
async fn consume<Q: Queue>(queue: &Q, count: usize) -> Result<Value> {
    let (mut took, mut done) = (Duration::ZERO, 0);
    while done < count {
        fill(queue, WAITING).await?;
        let (started, mut starts) = mpsc::unbounded_channel();
        let worker = queue.work(started);
        let first = next(&mut starts).await?;
        let mut last = first;
        for _ in 1..WAITING {
            last = next(&mut starts).await?;
        }
        worker.abort();
        let _ = worker.await;
        took += last.at - first.at;
        done += WAITING;
    }
    Ok(rate(done, took))
}

async fn idle<Q: Queue>(queue: &Q, count: usize) -> Result<Value> {
    let (started, mut starts) = mpsc::unbounded_channel();
    let worker = queue.work(started);
    let mut delays_ms = Vec::with_capacity(count);
    for number in 0..WARM_UP + count {
        // At uneven moments, which keep no step with a queue's own timers.
        tokio::time::sleep(Duration::from_secs_f64((0.5 + rand::random::<f64>()) / PER_S)).await;
        let sent = Instant::now();
        queue.push(number..number + 1).await?;
        let start = next(&mut starts).await?;
        if number >= WARM_UP {
            delays_ms.push(start.at.duration_since(sent).as_secs_f64() * 1000.0);
        }
    }
    worker.abort();
    delays_ms.sort_by(f64::total_cmp);
    let percentile = |percent: usize| delays_ms.get((delays_ms.len() * percent).div_ceil(100).saturating_sub(1));
    Ok(json!({ "jobs": count, "p50_ms": percentile(50), "p99_ms": percentile(99) }))
}

async fn next(starts: &mut mpsc::UnboundedReceiver<queue::Start>) -> Result<queue::Start> {
    let start = tokio::time::timeout(LIMIT, starts.recv()).await.context("no handler was started for a minute")?;
    start.context("the worker ended")
}

fn rate(jobs: usize, took: Duration) -> Value {
    json!({ "jobs": jobs, "seconds": took.as_secs_f64(), "per_s": jobs as f64 / took.as_secs_f64() })
}
