//! Storing jobs that may clash: with a unique key, an idempotency key, or both.

use millwork_shared::Result;
use millwork_shared::idempotency::{IdempotencyRecord, queries as idempotency};
use millwork_shared::infra::db::SystemTx;
use millwork_shared::jobs::{NewJob, queries};

use super::intake::Stored;

/// Stores those of `jobs` that do not clash; `keys` are theirs, one for one.
///
/// Idempotency keys first, in order, then unique keys, in order: no two batches can deadlock.
pub async fn store(tx: &mut SystemTx, jobs: &[NewJob], keys: &[Option<IdempotencyRecord>]) -> Result<Vec<Stored>> {
    let known = idempotency::store_many(tx, keys).await?;
    let mut stored = Vec::with_capacity(jobs.len());
    for (key, known) in keys.iter().zip(known) {
        stored.push(match key {
            Some(key) if known => Stored::Replay(idempotency::get(tx, key).await?),
            _ => Stored::New,
        });
    }
    let new: Vec<usize> = (0..jobs.len()).filter(|&n| is_new(&stored[n])).collect();
    let candidates: Vec<&NewJob> = new.iter().map(|&n| &jobs[n]).collect();
    for (n, holder) in queries::hold_keys(tx, &candidates).await? {
        stored[new[n]] = Stored::NotUnique(holder);
    }
    queries::insert(tx, jobs.iter().zip(&stored).filter(|(_, s)| is_new(s)).map(|(job, _)| job)).await?;
    Ok(stored)
}

fn is_new(stored: &Stored) -> bool {
    matches!(stored, Stored::New)
}
