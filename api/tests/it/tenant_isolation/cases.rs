//! The cases: one a line for every operation of the served document. To add an operation, add its line, and what it is
//! about to `Object` if that is new.

use millwork_shared::tenants::Role as BuiltIn;
use serde_json::{Value, json};

use crate::support::{PASSWORD, Reply, Tenant};

/// Stands in a body for the id of the owner of the tenant whose object it is.
pub const OWNER: &str = "00000000-0000-7000-8000-0000000000ff";

/// Something of a tenant that an operation's path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    Alert,
    ApiKey,
    Batch,
    Delivery,
    Event,
    EventType,
    Export,
    File,
    Identity,
    Import,
    IpRule,
    Invitation,
    Job,
    Member,
    Role,
    Schedule,
    Session,
    Webhook,
}

use Object::*;

/// An id that is nobody's and no tenant's.
const NOBODY: &str = "00000000-0000-7000-8000-000000000009";

pub fn cases() -> Vec<Case> {
    vec![
        staff("admin.activity"),
        anyone("admin.activate"),
        staff("admin.deactivate_user").at(NOBODY),
        anyone("admin.enrol"),
        anyone("admin.login"),
        staff("admin.logout"),
        staff("admin.me"),
        staff("admin.metrics"),
        staff("admin.reactivate_user").at(NOBODY),
        staff("admin.reassign_user").at(NOBODY),
        staff("admin.resume_tenant").at(NOBODY),
        staff("admin.set_quotas").at(NOBODY),
        staff("admin.suspend_tenant").at(NOBODY),
        staff("admin.tenant").at(NOBODY),
        staff("admin.tenants"),
        staff("admin.update_tenant").at(NOBODY),
        staff("admin.user").at(NOBODY),
        staff("admin.users"),
        needs("alerts.create"),
        needs("alerts.delete").of(Alert),
        needs("alerts.get").of(Alert),
        needs("alerts.list"),
        needs("alerts.update").of(Alert).sending(json!({ "enabled": false })),
        needs("api_keys.create"),
        needs("api_keys.get").of(ApiKey),
        needs("api_keys.list"),
        needs("api_keys.revoke").of(ApiKey),
        needs("api_keys.rotate").of(ApiKey),
        needs("audit_logs.list"),
        member("auth.change_password"),
        member("auth.confirm_totp"),
        member("auth.disable_totp"),
        member("auth.end_session").of(Session),
        member("auth.end_sessions"),
        member("auth.enrol_totp"),
        member("auth.export_personal_data"),
        anyone("auth.forgot_password"),
        member("auth.identities"),
        anyone("auth.login"),
        member("auth.logout"),
        member("auth.logout_all"),
        member("auth.me"),
        anyone("auth.oauth").at("github"),
        anyone("auth.oauth_callback").at("github"),
        anyone("auth.oauth_exchange"),
        anyone("auth.refresh"),
        anyone("auth.register"),
        member("auth.replace_recovery_codes"),
        member("auth.resend_verification"),
        anyone("auth.reset_password"),
        member("auth.session").of(Session),
        member("auth.sessions"),
        member("auth.switch"),
        member("auth.tenants"),
        member("auth.totp"),
        member("auth.unlink_identity").of(Identity),
        anyone("auth.verify_email"),
        needs("batches.get").of(Batch),
        needs("batches.list"),
        needs("deliveries.get").of(Delivery),
        needs("deliveries.list").of(Webhook),
        needs("deliveries.retry").of(Delivery),
        needs("event_types.create"),
        needs("event_types.delete").of(EventType),
        needs("event_types.get").of(EventType),
        needs("event_types.list"),
        needs("event_types.update").of(EventType).sending(json!({ "description": "x" })),
        needs("events.get").of(Event),
        needs("events.list"),
        needs("events.publish"),
        needs("exports.cancel").of(Export),
        needs("exports.create"),
        needs("exports.download").of(Export),
        needs("exports.get").of(Export),
        needs("exports.list"),
        needs("files.complete").of(File),
        needs("files.content").of(File),
        needs("files.delete").of(File),
        needs("files.get").of(File),
        needs("files.list"),
        needs("files.presign"),
        needs("files.replace").of(File).sending_form(),
        needs("files.restore").of(File),
        needs("files.sweep"),
        needs("files.update").of(File).sending(json!({ "name": "x" })),
        needs("files.upload"),
        needs("files.url").of(File),
        needs("files.versions").of(File),
        needs("ip_rules.create"),
        needs("ip_rules.delete").of(IpRule),
        needs("ip_rules.get").of(IpRule),
        needs("ip_rules.list"),
        anyone("invitations.accept"),
        needs("imports.cancel").of(Import),
        needs("imports.create"),
        needs("imports.get").of(Import),
        needs("imports.list"),
        needs("imports.report").of(Import),
        needs("invitations.create"),
        needs("invitations.get").of(Invitation),
        needs("invitations.list"),
        needs("invitations.resend").of(Invitation),
        needs("invitations.revoke").of(Invitation),
        needs("jobs.attempts").of(Job),
        needs("jobs.cancel").of(Job),
        needs("jobs.cancel_many"),
        needs("jobs.cleanup"),
        needs("jobs.events").of(Job),
        needs("jobs.get").of(Job),
        needs("jobs.list"),
        needs("jobs.logs").of(Job),
        needs("jobs.replay"),
        needs("jobs.retry").of(Job),
        needs("jobs.stats"),
        needs("jobs.submit"),
        needs("jobs.submit_batch"),
        anyone("objects.get").at("x"),
        anyone("objects.put").at("x"),
        needs("queues.list"),
        needs("queues.pause").at("email"),
        needs("queues.resume").at("email"),
        needs("quotas.list"),
        needs("quotas.usage"),
        needs("roles.create"),
        needs("roles.delete").of(Role),
        needs("roles.get").of(Role),
        needs("roles.list"),
        needs("roles.permissions"),
        needs("roles.update").of(Role).sending(json!({ "description": "x" })),
        needs("schedules.create"),
        needs("schedules.delete").of(Schedule),
        needs("schedules.get").of(Schedule),
        needs("schedules.list"),
        needs("schedules.run").of(Schedule),
        needs("schedules.update").of(Schedule).sending(json!({ "paused": true })),
        needs("tenant.get"),
        needs("tenant.update"),
        needs("users.deactivate").of(Member),
        needs("users.erase").of(Member).sending(json!({})),
        needs("users.get").of(Member),
        needs("users.list"),
        needs("users.reactivate").of(Member),
        needs("users.reassign").of(Member).sending(json!({ "to": OWNER })),
        needs("users.remove").of(Member),
        needs("users.set_roles").of(Member).sending(json!({ "roles": ["support"] })),
        needs("users.update").of(Member).sending(json!({ "name": "x" })),
        needs("webhooks.create"),
        needs("webhooks.delete").of(Webhook),
        needs("webhooks.get").of(Webhook),
        needs("webhooks.list"),
        needs("webhooks.rotate_secret").of(Webhook).sending(json!({})),
        needs("webhooks.secret").of(Webhook),
        needs("webhooks.test").of(Webhook),
        needs("webhooks.update").of(Webhook).sending(json!({ "description": "x" })),
        needs("workers.list"),
    ]
}

impl Object {
    /// Makes one in `tenant`. Answers what stands for it in a path.
    pub async fn make(self, tenant: &Tenant<'_>) -> String {
        let owner = &tenant.owner;
        let webhook = json!({ "url": "https://hooks.acme.example/in", "event_types": ["order.*"] });
        match self {
            Alert => id(owner.post("/alerts", json!({ "on": "job.failed", "notify": { "event": true } })).await),
            ApiKey => id(owner.post("/api-keys", json!({ "name": "x", "permissions": ["jobs:read"] })).await),
            Batch => {
                let jobs = json!([{ "kind": "echo", "payload": 1, "delay_s": 3600 }]);
                let reply = owner.post("/jobs/batch", json!({ "jobs": jobs, "batch": {} })).await;
                reply.expect(202)["data"][0]["batch_id"].as_str().unwrap().to_owned()
            }
            Delivery => {
                let webhook = id(owner.post("/webhooks", webhook).await);
                owner.post("/events", json!({ "type": "order.paid", "payload": 1 })).await.expect(202);
                let deliveries = owner.get(&format!("/webhooks/{webhook}/deliveries")).await.expect(200);
                deliveries["data"][0]["id"].as_str().unwrap().to_owned()
            }
            Event => {
                let reply = owner.post("/events", json!({ "type": "order.sent", "payload": 1 })).await.expect(202);
                let event = &reply["data"]["event"];
                event["id"].as_str().or(event.as_str()).unwrap().to_owned()
            }
            EventType => {
                let name = format!("order.n{}", uuid::Uuid::new_v4().simple());
                owner.post("/event-types", json!({ "name": name })).await.expect(201);
                name
            }
            Export => id(owner.post("/exports", json!({ "resource": "jobs", "format": "csv" })).await),
            File => id(owner.upload("a.txt", "text/plain", b"a text").await),
            Import => {
                let file = id(owner.upload("types.csv", "text/csv", b"name\norder.paid\n").await);
                let body = json!({ "file_id": file, "resource": "event_types", "mode": "dry_run" });
                id(owner.post("/imports", body).await)
            }
            IpRule => {
                let cidr = std::net::Ipv6Addr::from(uuid::Uuid::new_v4().as_u128());
                id(owner.post("/security/ip-rules", json!({ "action": "deny", "cidr": cidr })).await)
            }
            Identity => {
                let link = format!(
                    "insert into identities (issuer, subject, user_id, provider, email)
                     values ('https://{}.example', 'x', '{}', 'x', 'x@x.example') returning id::text",
                    uuid::Uuid::new_v4().simple(),
                    tenant.owner_id
                );
                tenant.app.db.sql(link).await.remove(0).unwrap()
            }
            Invitation => {
                let email = format!("{}@guest.example", uuid::Uuid::new_v4().simple());
                id(owner.post("/invitations", json!({ "email": email, "roles": ["viewer"] })).await)
            }
            Job => id(owner.post("/jobs", json!({ "kind": "echo", "payload": 1, "delay_s": 3600 })).await),
            Member => {
                let me = tenant.member(BuiltIn::Viewer).await.get("/auth/me").await.expect(200);
                me["data"]["user"]["id"].as_str().unwrap().to_owned()
            }
            Role => {
                let name = format!("Role {}", uuid::Uuid::new_v4().simple());
                id(owner.post("/roles", json!({ "name": name, "permissions": ["jobs:read"] })).await)
            }
            Schedule => {
                let job = json!({ "kind": "echo", "payload": 1 });
                id(owner.post("/schedules", json!({ "name": "x", "cron": "0 3 * * *", "job": job })).await)
            }
            Session => {
                let body = json!({ "email": tenant.email, "password": PASSWORD });
                let session = tenant.app.anonymous().post("/auth/login", body).await.expect(200);
                let token = session["data"]["access_token"].as_str().unwrap();
                let me = tenant.app.bearer(token).get("/auth/me").await.expect(200);
                me["data"]["session_id"].as_str().unwrap().to_owned()
            }
            Webhook => id(owner.post("/webhooks", webhook).await),
        }
    }

    /// What stands for one that nobody has.
    pub fn absent(self) -> &'static str {
        match self {
            EventType => "order.unheard_of",
            _ => "00000000-0000-7000-8000-000000000009",
        }
    }
}

#[track_caller]
fn id(reply: Reply) -> String {
    assert!(matches!(reply.status, 201 | 202), "{}", reply.text());
    reply.expect(reply.status)["data"]["id"].as_str().unwrap().to_owned()
}

/// Who may call an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Who has not said who they are.
    Anyone,
    /// Everybody who belongs to a tenant.
    Member,
    /// Who holds the permission that the document names.
    Holder,
    /// The platform's staff, and nobody of a tenant.
    Staff,
}

/// What an operation's path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nothing.
    None,
    Of(Object),
    /// What every tenant has.
    Everybodys(&'static str),
}

#[derive(Debug, Clone)]
pub struct Case {
    pub operation: &'static str,
    pub who: Who,
    pub place: Place,
    /// One that fits, where an object is looked for only then.
    pub body: Option<Value>,
    /// A form with a file.
    pub form: bool,
}

const fn case(operation: &'static str, who: Who) -> Case {
    Case { operation, who, place: Place::None, body: None, form: false }
}

const fn anyone(operation: &'static str) -> Case {
    case(operation, Who::Anyone)
}

const fn member(operation: &'static str) -> Case {
    case(operation, Who::Member)
}

const fn needs(operation: &'static str) -> Case {
    case(operation, Who::Holder)
}

const fn staff(operation: &'static str) -> Case {
    case(operation, Who::Staff)
}

impl Case {
    fn of(self, object: Object) -> Self {
        Self { place: Place::Of(object), ..self }
    }

    fn at(self, name: &'static str) -> Self {
        Self { place: Place::Everybodys(name), ..self }
    }

    fn sending_form(self) -> Self {
        Self { form: true, ..self }
    }

    fn sending(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }
}
