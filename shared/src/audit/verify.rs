//! Looks whether somebody touched a tenant's entries.

use uuid::Uuid;

use super::chain::{Ends, Finding, Walk};
use super::queries;
use crate::Result;
use crate::infra::crypto::KeyRing;
use crate::infra::db::SystemDb;
use crate::infra::ids::TenantId;

/// Entries read by one statement.
const PAGE: i64 = 1_000;
/// Findings told at most: one change may break much.
const MOST_FINDINGS: usize = 100;

/// What was found.
#[derive(Debug)]
pub struct Report {
    pub entries: u64,
    /// Entries that have no place yet: they are a minute old at most while a worker is alive.
    pub unsealed: i64,
    /// As they are, or should be.
    pub ends: Ends,
    pub findings: Vec<Finding>,
}

/// Walks a tenant's whole chain. Entries that are sealed meanwhile are left for the next time.
pub async fn verify(system: &SystemDb, keys: &KeyRing, tenant: TenantId) -> Result<Report> {
    let mut tx = system.system().await?;
    // Of one moment: the end of the chain and the entries that it speaks of.
    sqlx::raw_sql("set transaction isolation level repeatable read read only").execute(&mut *tx).await?;
    let chain = queries::find_chain(&mut tx, tenant).await?;
    let unsealed = queries::count_unsealed(&mut tx, tenant).await?;
    let mut findings = Vec::new();
    let ends = match &chain {
        None => Ends::NONE,
        Some(row) => match Ends::open(keys, tenant, &row.sealed) {
            Ok(ends) => {
                if ends.seq != row.seq {
                    findings.push(Finding::Ends(format!("it says {}, the row says {}", ends.seq, row.seq)));
                }
                ends
            }
            Err(error) => {
                findings.push(Finding::Ends(format!("{error:#}")));
                return Ok(Report { entries: 0, unsealed, ends: Ends::NONE, findings });
            }
        },
    };
    let (mut walk, mut entries, mut after) = (Walk::new(ends), 0, (0, Uuid::nil()));
    loop {
        let links = queries::list_links(&mut tx, tenant, after, PAGE).await?;
        links.iter().for_each(|link| walk.step(link));
        entries += links.len() as u64;
        match links.last() {
            Some(last) if links.len() as i64 == PAGE && walk.findings.len() < MOST_FINDINGS => {
                after = (last.seq, last.id)
            }
            _ => break,
        }
    }
    if chain.is_none() && entries > 0 {
        findings.push(Finding::NoChain);
    } else {
        findings.extend(walk.end());
    }
    findings.truncate(MOST_FINDINGS);
    Ok(Report { entries, unsealed, ends, findings })
}
