//! Bodies.

use millwork_shared::audit::queries::EntryRow;
use millwork_shared::quotas::Overrides;
use millwork_shared::staff::Staff;
use millwork_shared::staff::feed::{Count, FeedRow, QueueRow};
use millwork_shared::staff::tenants::{Details, TenantRow};
use millwork_shared::staff::users::UserRow;
use poem_openapi::Object;
use poem_openapi::types::Example;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::http::types::{Line, MailAddress, Password};
use crate::http::{RawJson, Time};
use crate::quotas::settings::PlanQuotas;

#[derive(Debug, Object, Deserialize)]
pub struct StaffEnrol {
    /// As `create-staff` has shown it
    #[oai(validator(max_length = 200))]
    pub token: String,
}

#[derive(Debug, Object, Deserialize)]
#[oai(example)]
pub struct StaffActivate {
    /// As `create-staff` has shown it
    #[oai(validator(max_length = 200))]
    pub token: String,
    #[oai(validator(min_length = 12, max_length = 128))]
    pub password: Password,
    /// A code of the authenticator app
    #[oai(validator(max_length = 64))]
    pub otp: String,
}

impl Example for StaffActivate {
    fn example() -> Self {
        let token = "mwi_ZFm0vYb6mV3mD0rJmYkq3v0y6l8F3o2wT1s9xQ4nR5c".to_owned();
        Self { token, password: Password::example(), otp: "123456".to_owned() }
    }
}

#[derive(Debug, Object, Deserialize)]
#[oai(example)]
pub struct StaffSignIn {
    #[oai(validator(max_length = 254))]
    pub email: MailAddress,
    #[oai(validator(max_length = 128))]
    pub password: Password,
    /// A code of the authenticator app
    #[oai(validator(max_length = 64))]
    pub otp: String,
}

impl Example for StaffSignIn {
    fn example() -> Self {
        let email = MailAddress("ops@millwork.example".to_owned());
        Self { email, password: Password::example(), otp: "123456".to_owned() }
    }
}

/// The secret of an authenticator app, shown this once
#[derive(Debug, Object, Serialize)]
pub struct StaffSecret {
    /// Base32
    pub secret: String,
    /// For a QR code
    pub uri: String,
}

impl StaffSecret {
    pub fn new(email: &str, secret: String) -> Self {
        let account: String = url::form_urlencoded::byte_serialize(email.as_bytes()).collect();
        let uri = format!("otpauth://totp/Millwork%20staff:{account}?secret={secret}&issuer=Millwork%20staff");
        Self { secret, uri }
    }
}

/// A session of the staff
#[derive(Debug, Object, Serialize)]
pub struct StaffSession {
    pub staff: StaffMember,
    /// Send it as `Authorization: Bearer …`, to `/admin` alone
    pub token: String,
    /// Seconds until it ends; an hour without a request ends it too
    pub expires_in: u32,
}

/// Somebody of the staff
#[derive(Debug, Object, Serialize)]
pub struct StaffMember {
    pub id: Uuid,
    pub email: String,
    pub name: String,
}

impl From<&Staff> for StaffMember {
    fn from(staff: &Staff) -> Self {
        Self { id: staff.id().0, email: staff.email().to_owned(), name: staff.name().to_owned() }
    }
}

/// A tenant, as staff see it
#[derive(Debug, Object, Serialize)]
pub struct AdminTenant {
    pub id: Uuid,
    pub name: String,
    /// `starter`, `pro` or `enterprise`
    pub plan: String,
    pub suspended_at: Option<Time>,
    pub suspension_reason: Option<String>,
    pub created_at: Time,
    pub version: i32,
}

impl From<TenantRow> for AdminTenant {
    fn from(row: TenantRow) -> Self {
        Self {
            id: row.id.0,
            name: row.name,
            plan: row.plan,
            suspended_at: row.suspended_at.map(Time),
            suspension_reason: row.suspension_reason,
            created_at: Time(row.created_at),
            version: row.version,
        }
    }
}

/// A tenant and what it uses
#[derive(Debug, Object, Serialize)]
pub struct AdminTenantDetails {
    pub tenant: AdminTenant,
    /// Members now
    pub members: i64,
    /// Addresses of owners, twenty at most
    pub owners: Vec<String>,
    /// When the month began
    pub since: Time,
    /// Jobs that were submitted since, as far as processes have said
    pub jobs: i64,
    /// Events that were published since, as far as processes have said
    pub events: i64,
    pub quotas: AdminQuotas,
}

impl AdminTenantDetails {
    pub fn new(tenant: TenantRow, details: Details, quotas: AdminQuotas) -> Self {
        let used = |name: &str| details.used.iter().find(|(metric, _)| metric == name).map_or(0, |(_, used)| *used);
        Self {
            tenant: tenant.into(),
            members: details.members,
            since: details.period.and_hms_opt(0, 0, 0).unwrap_or_default().and_utc().into(),
            jobs: used("jobs"),
            events: used("events"),
            owners: details.owners,
            quotas,
        }
    }
}

/// What a tenant may use
#[derive(Debug, Object, Serialize)]
pub struct AdminQuotas {
    /// Jobs a month
    pub jobs: i64,
    /// Events a month
    pub events: i64,
    pub members: i64,
    /// Bytes of files
    pub storage: i64,
    /// What of it is not the plan's; null where it is
    pub overrides: QuotaOverrides,
    pub version: i32,
}

impl AdminQuotas {
    pub fn new(plan: PlanQuotas, overrides: Overrides, version: i32) -> Self {
        let PlanQuotas { jobs, events, members, storage } = plan.with(overrides);
        let Overrides { jobs: j, events: e, members: m, storage: s } = overrides;
        let overrides = QuotaOverrides { jobs: j, events: e, members: m, storage: s };
        Self { jobs, events, members, storage, overrides, version }
    }
}

/// What a tenant may use beside its plan; null, or left out: as the plan says
#[derive(Debug, Object, Serialize, Deserialize)]
pub struct QuotaOverrides {
    #[oai(validator(minimum(value = "0"), maximum(value = "1000000000000")))]
    pub jobs: Option<i64>,
    #[oai(validator(minimum(value = "0"), maximum(value = "1000000000000")))]
    pub events: Option<i64>,
    #[oai(validator(minimum(value = "0"), maximum(value = "1000000")))]
    pub members: Option<i64>,
    /// Bytes of files
    #[oai(validator(minimum(value = "0"), maximum(value = "1125899906842624")))]
    pub storage: Option<i64>,
}

impl From<QuotaOverrides> for Overrides {
    fn from(QuotaOverrides { jobs, events, members, storage }: QuotaOverrides) -> Self {
        Self { jobs, events, members, storage }
    }
}

/// What changes of a tenant
#[derive(Debug, Object, Deserialize)]
pub struct AdminTenantChange {
    /// `starter`, `pro` or `enterprise`
    #[oai(validator(max_length = 40))]
    pub plan: String,
}

#[derive(Debug, Object, Deserialize)]
#[oai(example)]
pub struct AdminSuspend {
    /// Why; kept in the tenant's audit entries
    #[oai(validator(min_length = 1, max_length = 500))]
    pub reason: Line,
}

impl Example for AdminSuspend {
    fn example() -> Self {
        Self { reason: Line("The invoices of March and April are unpaid".to_owned()) }
    }
}

/// A person, as staff see them
#[derive(Debug, Object, Serialize)]
pub struct AdminUser {
    pub id: Uuid,
    pub email: String,
    pub name: String,
    /// When the address was proven
    pub email_verified_at: Option<Time>,
    pub deactivated_at: Option<Time>,
    pub created_at: Time,
    pub version: i32,
}

impl From<UserRow> for AdminUser {
    fn from(row: UserRow) -> Self {
        Self {
            id: row.id.0,
            email: row.email,
            name: row.name,
            email_verified_at: row.verified_at.map(Time),
            deactivated_at: row.deactivated_at.map(Time),
            created_at: Time(row.created_at),
            version: row.version,
        }
    }
}

/// A person and where they belong
#[derive(Debug, Object, Serialize)]
pub struct AdminUserDetails {
    pub user: AdminUser,
    /// A hundred at most
    pub memberships: Vec<AdminMembership>,
}

#[derive(Debug, Object, Serialize)]
pub struct AdminMembership {
    pub tenant_id: Uuid,
    pub tenant_name: String,
    /// Of those that every tenant has; null for who has roles of the tenant's own alone
    pub role: Option<String>,
}

/// In which tenant, and to whom
#[derive(Debug, Object, Deserialize)]
pub struct AdminReassign {
    pub tenant_id: Uuid,
    /// The member who takes over
    pub to: Uuid,
}

/// How much was handed over
#[derive(Debug, Object, Serialize)]
pub struct AdminReassigned {
    pub api_keys: u64,
    /// That were not accepted yet
    pub invitations: u64,
}

/// The platform in figures
#[derive(Debug, Object, Serialize)]
pub struct PlatformMetrics {
    pub tenants: HowMany,
    pub users: HowMany,
    /// Jobs that have not ended, over all tenants, as the scheduler counted them last
    pub queues: Vec<PlatformQueue>,
    /// Bytes of the database on disk
    pub database_size_bytes: i64,
}

#[derive(Debug, Object, Serialize)]
pub struct HowMany {
    pub count: i64,
    /// Whether it is the database's estimate: so beyond 10,000
    pub estimated: bool,
}

impl From<Count> for HowMany {
    fn from(Count { count, estimated }: Count) -> Self {
        Self { count, estimated }
    }
}

#[derive(Debug, Object, Serialize)]
pub struct PlatformQueue {
    pub name: String,
    /// Due, and may be taken
    pub queued: i64,
    /// Due, and held back by a pause or a suspension
    pub paused: i64,
    pub scheduled: i64,
    pub retrying: i64,
    pub running: i64,
    /// Live worker processes that serve it
    pub workers: i64,
    /// Since when the longest waiting of the queued jobs waits
    pub oldest_due_at: Option<Time>,
    pub counted_at: Time,
}

impl From<QueueRow> for PlatformQueue {
    fn from(row: QueueRow) -> Self {
        Self {
            name: row.queue,
            queued: row.queued,
            paused: row.paused,
            scheduled: row.scheduled,
            retrying: row.retrying,
            running: row.running,
            workers: row.workers,
            oldest_due_at: row.oldest_due_at.map(Time),
            counted_at: Time(row.counted_at),
        }
    }
}

/// Something that was done, and in which tenant
#[derive(Debug, Object, Serialize)]
pub struct AdminActivity {
    pub id: Uuid,
    /// The platform's own entries have `00000000-0000-7000-8000-000000000000`
    pub tenant_id: Uuid,
    pub created_at: Time,
    /// `user`, `api_key`, `staff`, `job`, `anonymous` or `system`
    pub actor_type: String,
    pub actor_id: Option<Uuid>,
    pub ip: Option<String>,
    pub user_agent: Option<String>,
    pub request_id: Option<String>,
    /// Resource and deed, as `tenant.updated`
    pub action: String,
    pub resource_type: String,
    pub resource_id: Option<String>,
    pub before: Option<RawJson>,
    pub after: Option<RawJson>,
}

impl From<FeedRow> for AdminActivity {
    fn from(FeedRow { tenant_id, entry }: FeedRow) -> Self {
        let EntryRow { id, .. } = entry;
        let (seconds, nanos) = id.get_timestamp().map_or((0, 0), |t| t.to_unix());
        Self {
            id,
            tenant_id: tenant_id.0,
            created_at: chrono::DateTime::from_timestamp(seconds as i64, nanos).unwrap_or_default().into(),
            actor_type: entry.actor_type,
            actor_id: entry.actor_id,
            ip: entry.ip,
            user_agent: entry.user_agent,
            request_id: entry.request_id,
            action: entry.action,
            resource_type: entry.resource_type,
            resource_id: entry.resource_id,
            before: entry.before.map(RawJson::stored),
            after: entry.after.map(RawJson::stored),
        }
    }
}
