//! apalis-redis as it comes, with the settings that were fastest.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use apalis_core::backend::TaskSink;
use apalis_core::backend::ext::BackendExt;
use apalis_core::task::data::Data;
use apalis_core::worker::builder::WorkerBuilder;
use apalis_core::worker::ext::parallelize::ParallelizeExt;
use apalis_redis::{Config, ConnectionManager, RedisStorage};
use futures::FutureExt;
use millwork_shared::infra::tasks;
use redis::aio::ConnectionManagerConfig;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::queue::{Queue, Start};

/// Left alone it looks every 15 seconds.
const POLL: Duration = Duration::from_millis(1);
const BATCH: usize = 500;
/// The client's own 500 ms end a worker at the first hiccup.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a ticket of Millwork names.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Ids {
    tenant: Uuid,
    job: Uuid,
}

pub struct Stored {
    storage: RedisStorage<Ids>,
}

impl Stored {
    pub async fn open(url: &str) -> Result<Self> {
        let settings = ConnectionManagerConfig::new().set_response_timeout(Some(PATIENCE));
        let connection = ConnectionManager::new_with_config(redis::Client::open(url)?, settings).await?;
        let config = Config::default().queue("transport").batch_size(BATCH).lock_tasks(false).persist_results(false);
        Ok(Self { storage: RedisStorage::new(connection).with_config(config.emit_events(false)) })
    }
}

impl Queue for Stored {
    async fn push(&self, numbers: Range<usize>) -> Result<()> {
        let ids = numbers.map(|_| Ids { tenant: Uuid::new_v4(), job: Uuid::new_v4() }).collect();
        self.storage.clone().push_bulk(ids).await.map_err(|error| anyhow!("{error}"))
    }

    fn work(&self, started: mpsc::UnboundedSender<Start>) -> JoinHandle<Option<()>> {
        async fn begun(_: Ids, started: Data<mpsc::UnboundedSender<Start>>) {
            let _ = started.send(Start { at: Instant::now() });
        }
        let backend = self.storage.clone().poll_with_interval(POLL);
        let worker = WorkerBuilder::new(Uuid::new_v4().to_string().as_str())
            .backend(backend)
            .data(started)
            .parallelize(tasks::spawn_handler)
            .build(begun);
        let worker = worker.run().boxed(); // here, where its type has no erased lifetimes left
        tasks::spawn("worker", async move {
            if let Err(error) = worker.await {
                eprintln!("the worker ended: {error}");
            }
        })
    }
}
