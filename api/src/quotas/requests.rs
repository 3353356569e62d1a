//! How many requests tenants have made: counted in memory, and written every few seconds by one statement. Nobody is refused by
//! this number, so what a process had not written when it was killed is not counted.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use millwork_shared::infra::db::Db;
use millwork_shared::infra::ids::TenantId;
use millwork_shared::quotas::queries;

/// Tenants between two writes; requests of more are not counted.
const MOST: usize = 65_536;

#[derive(Debug, Default)]
pub struct Requests {
    counts: Mutex<HashMap<TenantId, i64>>,
}

impl Requests {
    pub fn count(&self, tenant: TenantId) {
        self.add(tenant, 1);
    }

    /// What was counted of a tenant and is not written yet.
    pub fn unwritten(&self, tenant: TenantId) -> i64 {
        self.counts().get(&tenant).copied().unwrap_or_default()
    }

    /// Writes what was counted; later, when the database does not answer.
    pub async fn write(&self, db: &Db) {
        let counted: Vec<(TenantId, i64)> = self.counts().drain().collect();
        if counted.is_empty() {
            return;
        }
        if let Err(error) = queries::add_requests(&db.system(), &counted).await {
            tracing::debug!(%error, "requests of tenants are written later");
            counted.into_iter().for_each(|(tenant, count)| self.add(tenant, count));
        }
    }

    fn add(&self, tenant: TenantId, count: i64) {
        let mut counts = self.counts();
        if counts.len() < MOST || counts.contains_key(&tenant) {
            *counts.entry(tenant).or_default() += count;
        }
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<TenantId, i64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
