//! Bodies of `/permissions` and `/roles`.

use poem_openapi::Object;
use serde::Serialize;

/// What something may be done with.
#[derive(Debug, Object, Serialize)]
pub struct Resource {
    pub resource: String,
    pub actions: Vec<Action>,
}

/// What may be done with it, and by whom.
#[derive(Debug, Object, Serialize)]
pub struct Action {
    pub action: String,
    /// `resource:action`, as keys and roles take it
    pub permission: String,
    /// The roles that hold it
    pub roles: Vec<String>,
}
