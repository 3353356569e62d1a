//! Tenants to measure with, each with an API key.
//!
//! Put into the database as the API would: registering would send mails and hash passwords, whose jobs and processor
//! time would show in the figures.

use anyhow::Result;
use sha2::{Digest, Sha256};

use crate::secret;
use crate::services::psql::Psql;

/// Adds `count` tenants and answers the key of each.
pub fn add(psql: &mut Psql, count: usize) -> Result<Vec<String>> {
    let keys = (0..count).map(|_| Key::make()).collect::<Result<Vec<_>>>()?;
    let values: Vec<String> = keys.iter().map(|key| format!("('{}', '{}')", key.prefix, key.hash)).collect();
    // One statement sees the tables as they were at its beginning, and foreign keys are checked at its end.
    psql.rows(&format!(
        "with k as (
             select prefix, decode(hash, 'hex') as hash, gen_random_uuid() as tenant, gen_random_uuid() as person
               from (values {}) v(prefix, hash)
         ), t as (
             insert into tenants (id, name) select tenant, 'Bench ' || prefix from k
         ), u as (
             insert into users (id, email, name, password_hash)
             select person, prefix || '@example.com', 'Bench', 'none' from k
         ), m as (
             insert into memberships (tenant_id, user_id, role) select tenant, person, 'owner' from k
         )
         insert into api_keys (id, tenant_id, created_by, name, prefix, secret_hash, permissions)
         select gen_random_uuid(), tenant, person, 'bench', prefix, hash,
                '{{jobs:submit,jobs:read,jobs:cancel,events:publish,events:read,webhooks:read,webhooks:write}}'
           from k;",
        values.join(", ")
    ))?;
    Ok(keys.into_iter().map(|key| key.text).collect())
}

/// An SQL expression for the id of the tenant that `key` belongs to.
pub fn of(key: &str) -> String {
    let prefix = key.split('_').nth(2).unwrap_or_default();
    format!("select tenant_id from api_keys where prefix = '{prefix}'")
}

/// `mw_<env>_<prefix>_<secret>`, of which the database keeps the prefix and the SHA-256 of the whole.
struct Key {
    text: String,
    prefix: String,
    hash: String,
}

impl Key {
    fn make() -> Result<Self> {
        let prefix = hex(&secret::random::<6>()?);
        let text = format!("mw_test_{prefix}_{}", hex(&secret::random::<20>()?));
        Ok(Self { hash: hex(&Sha256::digest(&text)), text, prefix })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
