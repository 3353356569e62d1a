//! Bodies.

use millwork_shared::audit::queries::EntryRow;
use poem_openapi::Object;
use serde::Serialize;
use uuid::Uuid;

use crate::http::{RawJson, Time};

/// Something that was done
#[derive(Debug, Serialize, Object)]
pub struct AuditEntry {
    pub id: Uuid,
    pub created_at: Time,
    /// `user`, `api_key`, `staff` (of the platform), `job`, `anonymous` (a request that did not say who it is) or
    /// `system`
    pub actor_type: String,
    pub actor_id: Option<Uuid>,
    /// Where the request came from
    pub ip: Option<String>,
    pub user_agent: Option<String>,
    pub request_id: Option<String>,
    /// Resource and deed, as `webhook.updated`
    pub action: String,
    pub resource_type: String,
    pub resource_id: Option<String>,
    /// The resource before; secrets are masked
    pub before: Option<RawJson>,
    /// The resource afterwards; secrets are masked
    pub after: Option<RawJson>,
}

impl From<EntryRow> for AuditEntry {
    fn from(row: EntryRow) -> Self {
        let (seconds, nanos) = row.id.get_timestamp().map_or((0, 0), |t| t.to_unix());
        Self {
            id: row.id,
            created_at: chrono::DateTime::from_timestamp(seconds as i64, nanos).unwrap_or_default().into(),
            actor_type: row.actor_type,
            actor_id: row.actor_id,
            ip: row.ip,
            user_agent: row.user_agent,
            request_id: row.request_id,
            action: row.action,
            resource_type: row.resource_type,
            resource_id: row.resource_id,
            before: row.before.map(RawJson::stored),
            after: row.after.map(RawJson::stored),
        }
    }
}
