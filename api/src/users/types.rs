//! Bodies of `/users`.

use millwork_shared::tenants::queries::members::Member as Row;
use poem_openapi::Object;
use poem_openapi::types::{Example, MaybeUndefined};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::http::Time;
use crate::http::types::Line;

/// A person who belongs to the tenant.
#[derive(Debug, Object, Serialize)]
pub struct Member {
    pub id: Uuid,
    pub email: String,
    /// As the tenant calls them, or else as they call themselves
    pub name: String,
    /// Names of roles
    pub roles: Vec<String>,
    /// When the address was proven
    pub email_verified_at: Option<Time>,
    pub joined_at: Time,
    /// Since when they are shut out
    pub deactivated_at: Option<Time>,
    pub version: i32,
}

impl From<Row> for Member {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.0,
            roles: row.standing.names(),
            email: row.email,
            name: row.name,
            email_verified_at: row.verified_at.map(Time),
            joined_at: Time(row.joined_at),
            deactivated_at: row.deactivated_at.map(Time),
            version: row.version,
        }
    }
}

/// What is absent stays as it is.
#[derive(Debug, Object, Deserialize)]
#[oai(example)]
pub struct MemberChange {
    /// What this tenant calls them; null, as they call themselves
    #[oai(validator(min_length = 1, max_length = 200))]
    #[serde(default)]
    pub name: MaybeUndefined<Line>,
}

impl Example for MemberChange {
    fn example() -> Self {
        Self { name: MaybeUndefined::Value(Line("Ann from accounts".into())) }
    }
}

#[derive(Debug, Object, Deserialize)]
#[oai(example)]
pub struct RoleNames {
    /// All that they are to have
    #[oai(validator(min_items = 1, max_items = 20))]
    pub roles: Vec<String>,
}

impl Example for RoleNames {
    fn example() -> Self {
        Self { roles: vec!["developer".into()] }
    }
}

#[derive(Debug, Object, Deserialize)]
pub struct Reassign {
    /// The member who takes over
    pub to: Uuid,
}

/// How much was handed over.
#[derive(Debug, Object, Serialize)]
pub struct Reassigned {
    pub api_keys: u64,
    /// That were not accepted yet
    pub invitations: u64,
}

/// What goes with a person
#[derive(Debug, Default, Object, Deserialize)]
#[oai(example)]
pub struct Erase {
    /// The files that they stored, too, with every version
    #[oai(default)]
    #[serde(default)]
    pub delete_files: bool,
}

impl Example for Erase {
    fn example() -> Self {
        Self::default()
    }
}
