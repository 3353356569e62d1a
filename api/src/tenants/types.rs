//! Bodies of `/tenant`.

use millwork_shared::tenants::queries as rows;
use poem_openapi::Object;
use poem_openapi::types::Example;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::http::Time;
use crate::http::types::Line;

/// A customer of the service, apart from all others.
#[derive(Debug, Object, Serialize)]
pub struct Tenant {
    pub id: Uuid,
    pub name: String,
    /// Whether events of types that were not declared are refused
    pub strict_event_types: bool,
    /// `starter`, `pro` or `enterprise`
    pub plan: String,
    pub created_at: Time,
    pub version: i32,
}

impl From<rows::Tenant> for Tenant {
    fn from(row: rows::Tenant) -> Self {
        Self {
            id: row.id.0,
            name: row.name,
            strict_event_types: row.strict_event_types,
            plan: row.plan,
            created_at: Time(row.created_at),
            version: row.version,
        }
    }
}

/// What is absent stays as it is.
#[derive(Debug, Object, Deserialize)]
#[oai(example)]
pub struct TenantChange {
    #[oai(validator(min_length = 1, max_length = 200))]
    pub name: Option<Line>,
    /// Refuse events of types that were not declared
    pub strict_event_types: Option<bool>,
}

impl Example for TenantChange {
    fn example() -> Self {
        Self { name: Some(Line("Acme Ltd".into())), strict_event_types: Some(true) }
    }
}
