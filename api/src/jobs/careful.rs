//! Storing jobs that may clash: with a unique key, an idempotency key, or both.

use std::collections::HashSet;

use millwork_shared::idempotency::IdempotencyRecord;
use millwork_shared::idempotency::queries::{self as idempotency, Claimed};
use millwork_shared::infra::db::SystemTx;
use millwork_shared::jobs::{NewJob, queries};
use millwork_shared::{Error, Result};

use super::intake::Stored;

/// Stores those of `jobs` that do not clash; `keys` are theirs, one for one.
///
/// Unique keys are taken in order, so that no two batches can deadlock.
///
/// # Errors
/// `idempotency_in_progress` when a key was answered while this batch was at work: it is to be tried again.
pub async fn store(tx: &mut SystemTx, jobs: &[NewJob], keys: &[Option<IdempotencyRecord>]) -> Result<Vec<Stored>> {
    let mut stored = claim(tx, keys).await?;
    let mut unique: Vec<usize> = (0..jobs.len()).filter(|&n| is_new(&stored[n]) && jobs[n].unique.is_some()).collect();
    unique.sort_unstable_by_key(|&n| (jobs[n].tenant, jobs[n].unique.as_ref().map(|u| &u.key)));
    for n in unique {
        let Some(wish) = &jobs[n].unique else { continue };
        if let Some(holder) = queries::hold_key(tx, &jobs[n], wish).await? {
            stored[n] = Stored::NotUnique(holder);
        }
    }
    queries::insert(tx, jobs.iter().zip(&stored).filter(|(_, s)| is_new(s)).map(|(job, _)| job)).await?;
    let records: Vec<IdempotencyRecord> =
        keys.iter().zip(&stored).filter(|(_, s)| is_new(s)).filter_map(|(key, _)| key.clone()).collect();
    if idempotency::store_all(tx, &records).await? < records.len() as u64 {
        return Err(Error::conflict(
            "idempotency_in_progress",
            "this Idempotency-Key was answered just now; ask again",
        ));
    }
    Ok(stored)
}

/// What each key says. The same key twice in one batch: the second finds the first at work.
async fn claim(tx: &mut SystemTx, keys: &[Option<IdempotencyRecord>]) -> Result<Vec<Stored>> {
    let mut named = HashSet::new();
    let claims: Vec<_> = keys.iter().flatten().map(|key| (key.tenant, &*key.route, &*key.key)).collect();
    let mut claimed = idempotency::claim_all(tx, &claims).await?.into_iter().zip(&claims);
    let say = |key: &Option<IdempotencyRecord>| match key.as_ref().and_then(|_| claimed.next()) {
        None => Stored::New,
        Some((Claimed::Free, name)) if named.insert(*name) => Stored::New,
        Some((Claimed::Answered(record), _)) => Stored::Replay(record),
        Some(_) => Stored::InProgress,
    };
    Ok(keys.iter().map(say).collect())
}

fn is_new(stored: &Stored) -> bool {
    matches!(stored, Stored::New)
}
