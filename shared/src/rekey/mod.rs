//! Seals anew, under the first key of `MASTER_KEYS`, what older keys sealed, while everything else goes on.
//!
//! Nothing is remembered between two runs: the sealed values name their key themselves. A value that is changed
//! meanwhile is left as it is, for whoever changed it sealed it under the first key of the ring they have.

use crate::audit::chain;
use crate::auth::queries::{signing_keys, totp};
use crate::idempotency;
use crate::infra::crypto::KeyRing;
use crate::infra::db::SystemDb;
use crate::staff;
use crate::webhooks::{headers_context, secret_context};
use crate::{Error, Result};

/// Every statement that seals anew.
pub mod queries;

/// Rows of one transaction.
pub const CHUNK: i64 = 200;
/// Values that cannot be opened and are named; of the others there is the number.
const MOST_NAMED: usize = 20;

/// A column of sealed values.
pub struct Column {
    pub table: &'static str,
    pub name: &'static str,
    /// The columns of the primary key, with their types.
    pub key: &'static [(&'static str, &'static str)],
    /// What a value is sealed for, by its row's key.
    pub context: fn(&[String]) -> Result<String>,
}

/// Every column of sealed values. A test compares them with the schema.
pub const COLUMNS: [Column; 9] = [
    Column { table: "webhooks", name: "sealed_secret", key: ID, context: |key| Ok(secret_context(id(key)?)) },
    Column { table: "webhooks", name: "sealed_old_secret", key: ID, context: |key| Ok(secret_context(id(key)?)) },
    Column { table: "webhooks", name: "sealed_headers", key: ID, context: |key| Ok(headers_context(id(key)?)) },
    Column {
        table: "totp_factors",
        name: "sealed_secret",
        key: &[("user_id", "uuid")],
        context: |key| Ok(totp::context(id(key)?)),
    },
    Column {
        table: "signing_keys",
        name: "sealed_private",
        key: ID,
        context: |key| Ok(signing_keys::context(id(key)?)),
    },
    Column { table: "staff", name: "sealed_secret", key: ID, context: |key| Ok(staff::queries::context(id(key)?)) },
    Column {
        table: "audit_chains",
        name: "sealed",
        key: &[("tenant_id", "uuid")],
        context: |key| Ok(chain::context(id(key)?)),
    },
    Column {
        table: "idempotency_keys",
        name: "sealed_body",
        key: &[("tenant_id", "uuid"), ("route", "text"), ("key", "text")],
        context: |key| match key {
            [tenant, route, name] => Ok(idempotency::context(id(std::slice::from_ref(tenant))?, route, name)),
            _ => Err(no_key()),
        },
    },
    Column {
        table: "personal_answers",
        name: "sealed_answer",
        key: &[("scope", "text")],
        context: |key| key.first().map(|scope| idempotency::personal::context(scope)).ok_or_else(no_key),
    },
];

const ID: &[(&str, &str)] = &[("id", "uuid")];

fn id<T: From<uuid::Uuid>>(key: &[String]) -> Result<T> {
    let id = key.first().and_then(|text| uuid::Uuid::parse_str(text).ok()).ok_or_else(no_key)?;
    Ok(T::from(id))
}

fn no_key() -> Error {
    anyhow::anyhow!("a row's key is not what it should be").into()
}

/// What became of a column.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    pub resealed: u64,
    /// Changed by somebody else meanwhile.
    pub changed: u64,
    pub unopened: u64,
    /// Why, for the first of them.
    pub faults: Vec<String>,
    /// Sealed under another key than the first, at the end.
    pub left: i64,
}

/// Seals the values of `column` anew, `chunk` rows at a time.
///
/// # Errors
/// Fails when the database does not answer. What was done until then stays done.
pub async fn reseal(system: &SystemDb, ring: &KeyRing, column: &Column, chunk: i64) -> Result<Tally> {
    let (mut tally, mut after) = (Tally::default(), None);
    loop {
        let mut tx = queries::begin(system).await?;
        let rows = queries::list(&mut tx, column, ring.first_id(), after.as_deref(), chunk).await?;
        let Some(last) = rows.last() else {
            tally.left = queries::count(&mut tx, column, ring.first_id()).await?;
            tx.commit().await?;
            return Ok(tally);
        };
        after = Some(last.key.clone());
        let mut fresh = Vec::with_capacity(rows.len());
        for row in rows {
            match anew(ring, column, &row) {
                Ok(sealed) => fresh.push((row, sealed)),
                Err(error) => {
                    tally.unopened += 1;
                    if tally.faults.len() < MOST_NAMED {
                        tally.faults.push(error.to_string());
                    }
                }
            }
        }
        let replaced = queries::replace(&mut tx, column, &fresh).await?;
        tx.commit().await?;
        tally.resealed += replaced;
        tally.changed += fresh.len() as u64 - replaced;
    }
}

fn anew(ring: &KeyRing, column: &Column, row: &queries::Row) -> Result<Vec<u8>> {
    let context = (column.context)(&row.key)?;
    ring.seal(&context, &ring.open(&context, &row.sealed)?)
}
