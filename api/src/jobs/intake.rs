//! Storing jobs, many requests' at once.
//!
//! While one commit is under way the next submissions gather; then they go in one statement. An idle API adds no delay.
//! Two writers: the plain one, whose jobs cannot clash with anything, and the careful one, for jobs with a unique key
//! or an idempotency key.

use std::time::{Duration, Instant};

use millwork_shared::idempotency::IdempotencyRecord;
use millwork_shared::infra::db::{Dedicated, Durability, SystemDb};
use millwork_shared::infra::ids::JobId;
use millwork_shared::infra::sabotage::{self, Sabotage};
use millwork_shared::infra::tasks;
use millwork_shared::jobs::dispatch::Dispatcher;
use millwork_shared::jobs::{NewJob, queries};
use millwork_shared::{Category, Error, Result};
use tokio::sync::{mpsc, oneshot};

use super::careful;
use crate::http::ApiError;
use crate::metrics::{self, METRICS};

/// Submissions that wait for a writer at most; more are told to come back.
const WAITING: usize = 4_096;
/// Jobs stored by one transaction at most.
const BATCH: usize = 256;
/// Longest time a commit may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Where requests leave their jobs to be stored.
#[derive(Clone)]
pub struct Intake {
    plain: mpsc::Sender<Submission>,
    careful: mpsc::Sender<Submission>,
}

struct Submission {
    job: NewJob,
    key: Option<IdempotencyRecord>,
    answer: oneshot::Sender<Result<Stored>>,
}

/// What became of a submission.
#[derive(Debug)]
pub enum Stored {
    /// Committed.
    New,
    /// The idempotency key has an answer already.
    Replay(IdempotencyRecord),
    /// The unique key is held by this job.
    NotUnique(JobId),
}

impl Intake {
    /// Starts the writers.
    pub fn start(system: SystemDb, dispatcher: Dispatcher) -> Self {
        let writer = |means| {
            let (submit, submissions) = mpsc::channel(WAITING);
            let writer = Writer { system: system.clone(), dispatcher: dispatcher.clone(), means };
            tasks::detach(writer.run(submissions));
            submit
        };
        Self {
            plain: writer(Means::Plain(Box::new(system.dedicated(Durability::Durable)))),
            careful: writer(Means::Careful),
        }
    }

    /// Stores a job and, with it, the answer for its idempotency key. Returns after the commit.
    ///
    /// # Errors
    /// 503 when too many wait already, or the database does not answer.
    pub async fn store(&self, job: NewJob, key: Option<IdempotencyRecord>) -> Result<Stored, ApiError> {
        let careful = key.is_some() || job.unique.is_some();
        let (writer, figures) = if careful { (&self.careful, &METRICS.careful) } else { (&self.plain, &METRICS.plain) };
        let (answer, answered) = oneshot::channel();
        writer.try_send(Submission { job, key, answer }).map_err(|_| {
            figures.refused.inc();
            ApiError::unavailable("too many jobs wait to be stored; try again in a moment", 1)
        })?;
        if !careful && sabotage::is_on(Sabotage::AckBeforeCommit) {
            return Ok(Stored::New);
        }
        let lost = || Error::Internal(anyhow::anyhow!("the writer of jobs went away"));
        Ok(answered.await.map_err(|_| lost())??)
    }
}

struct Writer {
    system: SystemDb,
    dispatcher: Dispatcher,
    means: Means,
}

/// How a writer stores a batch.
enum Means {
    /// One statement, which is a transaction by itself.
    Plain(Box<Dedicated>),
    /// Keys first, then the jobs that got theirs, in one transaction.
    Careful,
}

impl Means {
    fn figures(&self) -> &'static metrics::Writer {
        match self {
            Self::Plain(_) => &METRICS.plain,
            Self::Careful => &METRICS.careful,
        }
    }
}

impl Writer {
    async fn run(mut self, mut submissions: mpsc::Receiver<Submission>) {
        let mut batch = Vec::with_capacity(BATCH);
        while submissions.recv_many(&mut batch, BATCH).await > 0 {
            self.store_all(std::mem::take(&mut batch)).await;
        }
    }

    async fn store_all(&mut self, batch: Vec<Submission>) {
        let (mut jobs, mut keys, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for Submission { job, key, answer } in batch {
            jobs.push(job);
            keys.push(key);
            answers.push(answer);
        }
        let (figures, began) = (self.means.figures(), Instant::now());
        let stored = self.store(&jobs, &keys).await;
        match stored {
            Ok(stored) => {
                figures.batch.observe(jobs.len() as f64);
                figures.commit_s.observe(began.elapsed().as_secs_f64());
                let new: Vec<NewJob> = jobs
                    .into_iter()
                    .zip(&stored)
                    .filter(|(_, s)| matches!(s, Stored::New))
                    .map(|(job, _)| job)
                    .collect();
                figures.jobs.inc_by(new.len() as u64);
                self.dispatcher.offer(&new);
                for (answer, stored) in answers.into_iter().zip(stored) {
                    let _ = answer.send(Ok(stored));
                }
            }
            Err(Error::Internal(error)) if jobs.len() > 1 => {
                tracing::error!(
                    %error, error.category = %Category::Server, jobs = jobs.len(),
                    "a batch of jobs was refused; storing them one by one"
                );
                for ((job, key), answer) in jobs.into_iter().zip(keys).zip(answers) {
                    Box::pin(self.store_all(vec![Submission { job, key, answer }])).await;
                }
            }
            Err(error) => {
                for answer in answers {
                    let _ = answer.send(Err(again(&error)));
                }
            }
        }
    }

    async fn store(&mut self, jobs: &[NewJob], keys: &[Option<IdempotencyRecord>]) -> Result<Vec<Stored>> {
        let system = &self.system;
        let store = async {
            match &mut self.means {
                Means::Plain(ledger) => {
                    let mut connection = ledger.take().await?;
                    queries::insert(&mut connection, jobs).await?;
                    ledger.keep(connection);
                    Ok(jobs.iter().map(|_| Stored::New).collect())
                }
                Means::Careful => {
                    let mut tx = system.system().await?;
                    let stored = careful::store(&mut tx, jobs, keys).await?;
                    tx.commit().await?;
                    Ok(stored)
                }
            }
        };
        system.within(DEADLINE, store).await
    }
}

/// Errors are told to many, and cannot be cloned.
fn again(error: &Error) -> Error {
    match error {
        Error::Unavailable { dependency, cause } => Error::Unavailable { dependency, cause: cause.clone() },
        Error::Conflict { code, detail } => Error::conflict(code, detail.clone()),
        other => Error::Internal(anyhow::anyhow!("{other:#}")),
    }
}
