//! Who changed what.

/// `millwork-api audit verify`.
pub mod verify;

mod types;

use millwork_shared::audit::queries::{self, Filter};
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::Query;
use uuid::Uuid;

use crate::App;
use crate::http::{ApiError, List, Page, Permitted, Result, Time, to};
use crate::routes::Tag;
use types::AuditEntry;

pub struct AuditApi;

#[OpenApi(tag = "Tag::Identity")]
impl AuditApi {
    /// List audit entries, newest first
    ///
    /// Changes of this tenant's configuration, members and sessions, and reads of secrets. Entries are only ever added, and
    /// kept by the tenant's plan.
    #[oai(path = "/audit-logs", method = "get", operation_id = "audit_logs.list")]
    #[expect(clippy::too_many_arguments, reason = "one a filter")]
    async fn list(
        &self,
        caller: Permitted<to::AuditLogsRead>,
        app: Data<&App>,
        page: Page,
        /// Only by this person, API key or job
        actor_id: Query<Option<Uuid>>,
        /// Only this, as `webhook.updated`
        action: Query<Option<String>>,
        /// Only of this type, as `webhook`
        resource_type: Query<Option<String>>,
        /// Only of the resource of this id or name
        resource_id: Query<Option<String>>,
        /// Only what this request caused
        request_id: Query<Option<String>>,
        /// Only at or after this moment
        from: Query<Option<Time>>,
        /// Only before this moment
        to: Query<Option<Time>>,
    ) -> Result<List<AuditEntry>> {
        let texts = [
            ("action", &action.0),
            ("resource_type", &resource_type.0),
            ("resource_id", &resource_id.0),
            ("request_id", &request_id.0),
        ];
        for (name, value) in texts {
            if value.as_ref().is_some_and(|v| v.contains('\0') || v.len() > 255) {
                let detail = format!("parameter `{name}`: longer than 255 bytes, or with a NUL");
                return Err(ApiError::malformed("parameter_invalid", detail));
            }
        }
        let filter = Filter {
            actor: actor_id.0,
            action: action.0,
            resource_type: resource_type.0,
            resource_id: resource_id.0,
            request_id: request_id.0,
            from: from.0.map(|time| time.0),
            to: to.0.map(|time| time.0),
            before: page.before(),
        };
        let mut tx = app.db.tenant(caller.tenant).await?;
        let rows = queries::list(&mut tx, &filter, page.fetch()).await?;
        tx.commit().await?;
        List::new(&page, rows.into_iter().map(AuditEntry::from).collect(), |entry| entry.id)
    }
}
