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
    let mut unique: Vec<usize> = (0..jobs.len()).filter(|&n| is_new(&stored[n]) && jobs[n].unique.is_some()).collect();
    unique.sort_unstable_by_key(|&n| (jobs[n].tenant, jobs[n].unique.as_ref().map(|u| &u.key)));
    for n in unique {
        let Some(wish) = &jobs[n].unique else { continue };
        if let Some(holder) = queries::hold_key(tx, &jobs[n], wish).await? {
            stored[n] = Stored::NotUnique(holder);
            if let Some(key) = &keys[n] {
                idempotency::forget(tx, key).await?;
            }
        }
    }
    queries::insert(tx, jobs.iter().zip(&stored).filter(|(_, s)| is_new(s)).map(|(job, _)| job)).await?;
    Ok(stored)
}

fn is_new(stored: &Stored) -> bool {
    matches!(stored, Stored::New)
}
