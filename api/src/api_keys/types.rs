//! Bodies of `/api-keys`.

use millwork_shared::auth::queries::api_keys as rows;
use poem_openapi::Object;
use poem_openapi::types::Example;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::auth::key_text::NewKey;
use crate::http::Time;
use crate::http::types::Line;

#[derive(Debug, Object, Deserialize)]
#[oai(example)]
pub struct NewApiKey {
    /// What it is for
    #[oai(validator(min_length = 1, max_length = 200))]
    pub name: Line,
    /// What it may do, as `resource:action`
    #[oai(validator(min_items = 1, max_items = 100))]
    pub permissions: Vec<String>,
    /// Never, when absent
    pub expires_at: Option<Time>,
}

impl Example for NewApiKey {
    fn example() -> Self {
        Self {
            name: Line("Order service".into()),
            permissions: vec!["jobs:submit".into(), "jobs:read".into()],
            expires_at: None,
        }
    }
}

/// An API key without its secret.
#[derive(Debug, Object, Serialize)]
pub struct ApiKey {
    pub id: Uuid,
    pub name: String,
    /// The part of the key that is no secret: `mw_<env>_<prefix>_…`
    pub prefix: String,
    pub permissions: Vec<String>,
    pub created_by: Uuid,
    pub expires_at: Option<Time>,
    pub created_at: Time,
}

impl From<rows::ApiKey> for ApiKey {
    fn from(row: rows::ApiKey) -> Self {
        Self {
            id: row.id.0,
            name: row.name,
            prefix: row.prefix,
            permissions: row.permissions,
            created_by: row.created_by.0,
            expires_at: row.expires_at.map(Time),
            created_at: Time(row.created_at),
        }
    }
}

/// An API key with its secret, which is shown this once.
#[derive(Debug, Object, Serialize)]
pub struct ApiKeyWithSecret {
    pub id: Uuid,
    pub name: String,
    /// The part of the key that is no secret
    pub prefix: String,
    pub permissions: Vec<String>,
    pub created_by: Uuid,
    pub expires_at: Option<Time>,
    pub created_at: Time,
    /// The key itself: send it as `Authorization: Bearer …`
    pub secret: String,
}

impl ApiKeyWithSecret {
    pub fn new(row: rows::ApiKey, fresh: &NewKey) -> Self {
        let ApiKey { id, name, prefix, permissions, created_by, expires_at, created_at } = row.into();
        let secret = fresh.text.expose().clone();
        Self { id, name, prefix, permissions, created_by, expires_at, created_at, secret }
    }
}
