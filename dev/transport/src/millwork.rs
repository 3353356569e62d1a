//! The dispatcher, fetched from as a worker does, and an apalis worker over it. What a worker does with the ledger between
//! the two, claims and completions, has no part in this.

use std::convert::Infallible;
use std::ops::Range;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::task::Task;
use apalis_core::task::data::Data;
use apalis_core::worker::builder::WorkerBuilder;
use apalis_core::worker::context::WorkerContext;
use apalis_core::worker::ext::parallelize::ParallelizeExt;
use futures::FutureExt;
use millwork_shared::infra::ids::{JobId, TenantId};
use millwork_shared::infra::redis::{Client, connect_blocking, connect_lazy};
use millwork_shared::infra::tasks;
use millwork_shared::jobs::dispatch::{Dispatcher, Share, Ticket};
use millwork_shared::jobs::{self, Priority};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tower::layer::util::Identity;
use uuid::Uuid;

use crate::queue::{Queue, Start};

/// Enough that no lane is ever full.
const TENANTS: usize = 128;
/// As a worker takes them, and holds them at most.
const BATCH: usize = 512;
const HELD: usize = 4_096;
const LONGEST_WAIT: Duration = Duration::from_secs(5);

pub struct Dispatched {
    client: Client,
    dispatcher: Dispatcher,
    tenants: Vec<TenantId>,
}

impl Dispatched {
    pub fn open(url: &str) -> Result<Self> {
        let client = Client::open(url).map_err(anyhow::Error::msg)?;
        let dispatcher = Dispatcher::new(connect_lazy(&client).map_err(|error| anyhow!("{error}"))?);
        Ok(Self { client, dispatcher, tenants: (0..TENANTS).map(|_| TenantId(Uuid::new_v4())).collect() })
    }
}

impl Queue for Dispatched {
    async fn push(&self, numbers: Range<usize>) -> Result<()> {
        let ticket = |number: usize| Ticket {
            tenant: self.tenants[number % TENANTS],
            id: JobId(Uuid::new_v4()),
            queue: jobs::Queue::Default,
            priority: Priority::DEFAULT,
        };
        let tickets: Vec<Ticket> = numbers.map(ticket).collect();
        self.dispatcher.offer_now(&tickets).await.map(drop).map_err(|error| anyhow!("{error}"))
    }

    fn work(&self, started: mpsc::UnboundedSender<Start>) -> JoinHandle<Option<()>> {
        async fn begun(_: Ticket, started: Data<mpsc::UnboundedSender<Start>>) {
            let _ = started.send(Start { at: Instant::now() });
        }
        let (taken, tickets) = mpsc::channel(HELD);
        let worker = WorkerBuilder::new(Uuid::new_v4().to_string().as_str())
            .backend(Tickets { taken: tickets })
            .data(started)
            .parallelize(tasks::spawn_handler)
            .build(begun);
        let (dispatcher, client) = (self.dispatcher.clone(), self.client.clone());
        let worker = worker.run().boxed(); // here, where its type has no erased lifetimes left
        tasks::spawn("worker", async move {
            tokio::select! {
                error = fetch(dispatcher, client, taken) => eprintln!("the fetch loop ended: {error:?}"),
                ended = worker => eprintln!("the worker ended: {ended:?}"),
            }
        })
    }
}

/// Takes what there is, and waits when there is nothing.
async fn fetch(dispatcher: Dispatcher, client: Client, taken: mpsc::Sender<Ticket>) -> millwork_shared::Result<()> {
    let blocking = connect_blocking(&client, LONGEST_WAIT)?;
    let share = Share { of: Vec::new(), rest: HELD };
    loop {
        let tickets = dispatcher.take(jobs::Queue::Default, BATCH, &share).await?;
        if tickets.is_empty() {
            dispatcher.wait(&blocking, jobs::Queue::Default, LONGEST_WAIT).await?;
        }
        for ticket in tickets {
            if taken.send(ticket).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// Tickets as an apalis backend, in the form of the worker's own.
struct Tickets {
    taken: mpsc::Receiver<Ticket>,
}

impl Backend for Tickets {
    type Task = Task<Ticket>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, _: &WorkerContext) -> Poll<Option<Result<Self::Task, Infallible>>> {
        self.taken.poll_recv(cx).map(|ticket| ticket.map(|ticket| Ok(Task::new(ticket))))
    }

    fn poll_close(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for Tickets {
    type Args = Ticket;
    type Id = JobId;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}
