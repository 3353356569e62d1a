//! `millwork-api rekey`: seals anew, under the first key of `MASTER_KEYS`, what older keys sealed.

use std::io::Write;

use millwork_shared::infra::crypto::KeyRing;
use millwork_shared::infra::db::Db;
use millwork_shared::rekey::{CHUNK, COLUMNS, Tally, queries, reseal};

/// Seals everything anew, or with `check` only counts, and writes a line for each column.
///
/// # Errors
/// Fails when something is left that another key sealed, or the database does not answer.
pub async fn run(db: &Db, ring: &KeyRing, check: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let (system, mut left) = (db.system(), 0);
    writeln!(out, "the key that seals is `{}`", ring.first_id())?;
    for column in &COLUMNS {
        let name = format!("{}.{}", column.table, column.name);
        if check {
            let mut tx = queries::begin(&system).await?;
            let old = queries::count(&mut tx, column, ring.first_id()).await?;
            tx.commit().await?;
            writeln!(out, "{name}: {old} under older keys")?;
            left += old;
            continue;
        }
        let Tally { resealed, changed, unopened, faults, left: old } = reseal(&system, ring, column, CHUNK).await?;
        writeln!(
            out,
            "{name}: {resealed} sealed anew, {changed} changed meanwhile, {unopened} cannot be opened, \
             {old} under older keys"
        )?;
        for fault in &faults {
            writeln!(out, "  {fault}")?;
        }
        left += old;
    }
    if left > 0 {
        let next = if check { "run `millwork-api rekey`" } else { "keep the old keys in MASTER_KEYS and run it again" };
        anyhow::bail!("{left} values are sealed under older keys: {next}");
    }
    writeln!(out, "nothing is sealed under older keys: they can leave MASTER_KEYS")?;
    Ok(())
}
