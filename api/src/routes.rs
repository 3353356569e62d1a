//! Contents page: every endpoint.

use poem::endpoint::make_sync;
use poem::http::header;
use poem::{Endpoint, EndpointExt, Response, Route};
use poem_openapi::{OpenApi, OpenApiService, Tags};

use crate::App;
use crate::http::frame::Frame;
use crate::http::guard::{Guarded, get_only};
use crate::http::{docs, document};
use crate::{
    admin, alerts, api_keys, audit, auth, batches, events, exports, files, health, imports, invitations, ip_rules,
    jobs, metrics, objects, queues, quotas, roles, schedules, tenants, users, webhooks, workers,
};

/// Groups of the reference.
#[derive(Tags)]
pub enum Tag {
    /// Who is calling: people and API keys
    Identity,
    /// Work that is done later, once it is stored
    Jobs,
    /// Signed notifications to other systems
    Webhooks,
    /// Content: files, exports, imports
    Files,
    /// How the service itself is doing
    Operations,
    /// For the platform's staff
    Admin,
}

/// Every `…Api`.
fn apis() -> impl OpenApi {
    let identity = (
        auth::AuthApi,
        auth::own::OwnApi,
        auth::recovery::RecoveryApi,
        auth::mfa::MfaApi,
        auth::oauth::OAuthApi,
        api_keys::ApiKeysApi,
        tenants::TenantsApi,
        users::UsersApi,
        invitations::InvitationsApi,
        roles::RolesApi,
        ip_rules::IpRulesApi,
        audit::AuditApi,
        quotas::QuotasApi,
    );
    let jobs = (
        jobs::JobsApi,
        jobs::bulk::BulkApi,
        batches::BatchesApi,
        schedules::SchedulesApi,
        alerts::AlertsApi,
        queues::QueuesApi,
        workers::WorkersApi,
    );
    let webhooks = (events::EventsApi, webhooks::WebhooksApi, webhooks::deliveries::DeliveriesApi);
    let files = (
        files::FilesApi,
        files::content::ContentApi,
        files::direct::DirectApi,
        files::links::LinksApi,
        objects::SweepApi,
        exports::ExportsApi,
        imports::ImportsApi,
    );
    let admin =
        (admin::AdminApi, admin::sessions::StaffAuthApi, admin::tenants::AdminTenantsApi, admin::users::AdminUsersApi);
    (identity, jobs, webhooks, files, admin)
}

/// The whole application over one address.
pub fn app(app: App) -> impl Endpoint<Output = Response> {
    let service = OpenApiService::new(Guarded(apis()), "Millwork", env!("CARGO_PKG_VERSION"))
        .description("Durable jobs, signed webhooks and mail for other products.")
        .server(app.url("/api/v1"));
    let generated = service.spec();
    let document = document::text(&generated);
    let page = docs::page(service.swagger_ui_html().replace(&generated, &document), &app.settings.public_url);
    let routes = Route::new()
        .nest("/api/v1", service)
        .at("/api/v1/openapi.json", get_only("/api/v1/openapi.json", json(document)))
        .at("/docs", get_only("/docs", page))
        .at("/.well-known/jwks.json", get_only("/.well-known/jwks.json", auth::jwks()))
        .at("/metrics", get_only("/metrics", metrics::page()))
        .at("/health/live", get_only("/health/live", health::live()))
        .at("/health/ready", get_only("/health/ready", health::ready()))
        .at("/health", get_only("/health", health::all()));
    Frame { app, inner: routes.map_to_response() }
}

fn json(text: String) -> impl Endpoint<Output = Response> {
    let text = bytes::Bytes::from(text);
    make_sync(move |_| {
        let answer = Response::builder().content_type("application/json").header(header::CACHE_CONTROL, docs::CACHE);
        answer.body(text.clone())
    })
}
