//! `millwork-api audit verify`: looks whether somebody touched audit entries.

use std::io::Write;

use millwork_shared::audit::{queries, verify};
use millwork_shared::infra::crypto::KeyRing;
use millwork_shared::infra::db::Db;
use millwork_shared::infra::ids::TenantId;

/// Walks the chains of all tenants, or of `tenant`, and writes a line for each and for each finding.
///
/// # Errors
/// Fails when something was found, or the database does not answer.
pub async fn run(db: &Db, keys: &KeyRing, tenant: Option<TenantId>, out: &mut impl Write) -> anyhow::Result<()> {
    let system = db.system();
    let tenants = match tenant {
        Some(tenant) => vec![tenant],
        None => {
            let mut tx = system.system().await?;
            let tenants = queries::list_tenants(&mut tx).await?;
            tx.commit().await?;
            tenants
        }
    };
    let mut touched = 0;
    for tenant in &tenants {
        let report = verify::verify(&system, keys, *tenant).await?;
        let end: String = report.ends.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let verdict = if report.findings.is_empty() { "ok" } else { "TOUCHED" };
        // The end is what to keep elsewhere: a chain that was set back to an earlier state does not have it any more.
        writeln!(
            out,
            "{tenant} {verdict}: {} entries up to place {}, {} not sealed yet, end {end}",
            report.entries, report.ends.seq, report.unsealed,
        )?;
        for finding in &report.findings {
            writeln!(out, "  {finding}")?;
        }
        touched += usize::from(!report.findings.is_empty());
    }
    if touched > 0 {
        anyhow::bail!("the audit entries of {touched} of {} tenants are not as they were sealed", tenants.len());
    }
    writeln!(out, "{} tenants verified", tenants.len())?;
    Ok(())
}
