//! An API of one's own for every test, and clients that know who they are.

/// Requests and their answers.
mod client;
/// What a worker does to jobs, done by hand.
mod ledger;
/// A worker and a scheduler beside the API.
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
pub use client::{Client, FORM, Reply, form_around};
pub use ledger::PATIENCE;
use millwork_api::auth::oauth::settings::OAuthSettings;
use millwork_api::config::{Registration, Settings};
use millwork_api::http::browsers::CorsOrigins;
use millwork_api::http::proxies::TrustedProxies;
use millwork_api::http::server::settings::ServerSettings;
use millwork_api::limits::settings::LimitSettings;
use millwork_api::quotas::settings::QuotaSettings;
use millwork_api::{App, Parts, http::server};
use millwork_shared::egress::AllowedNets;
use millwork_shared::files::settings::FileSettings;
use millwork_shared::infra::crypto::KeyRing;
use millwork_shared::infra::ids::{TenantId, UserId};
use millwork_shared::infra::storage::Storage;
use millwork_shared::infra::{redis, tasks};
use millwork_shared::jobs::dispatch::Dispatcher;
use millwork_shared::tenants::{Permission, Role, queries as tenants};
use millwork_shared::testing::{TestDb, redis_url};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub const PASSWORD: &str = "correct horse battery";

/// The API in this process, on a port of its own, over a database and Redis keys of its own.
pub struct TestApp {
    pub db: TestDb,
    pub app: App,
    pub url: String,
    redis_client: redis::Client,
    prefix: &'static str,
    stop: CancellationToken,
}

/// What a test may start differently.
pub struct Options {
    pub registration: Registration,
    pub redis_url: String,
    /// Whether the schema counts as checked.
    pub ready: bool,
    /// Private networks that may be called.
    pub nets: AllowedNets,
    pub proxies: TrustedProxies,
    pub cors: CorsOrigins,
    pub server: ServerSettings,
    pub master_keys: String,
    pub limits: LimitSettings,
    pub quotas: QuotaSettings,
    pub oauth: OAuthSettings,
    pub files: FileSettings,
    /// A folder of its own unless given.
    pub storage: Option<Storage>,
    /// What people outside reach the API by, where that is not where it listens.
    pub public_url: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            registration: Registration::Open,
            redis_url: redis_url(),
            ready: true,
            nets: AllowedNets::default(),
            proxies: TrustedProxies::default(),
            cors: CorsOrigins::default(),
            server: ServerSettings::default(),
            master_keys: format!("test:{}", STANDARD.encode([7; 32])),
            limits: LimitSettings::default(),
            quotas: QuotaSettings::default(),
            oauth: OAuthSettings::default(),
            files: FileSettings::default(),
            storage: None,
            public_url: None,
        }
    }
}

impl TestApp {
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    pub async fn start_with(options: Options) -> Self {
        Self::over(TestDb::create().await, options).await
    }

    /// Over a database that something has happened to.
    pub async fn over(db: TestDb, options: Options) -> Self {
        let client = redis::Client::open(&options.redis_url).unwrap();
        let prefix: &'static str = format!("test-{}", Uuid::new_v4().simple()).leak();
        let stop = CancellationToken::new();
        let (app, url) = serve(&db, &options, prefix, &stop).await;
        Self { db, app, url, redis_client: client, prefix, stop }
    }

    /// Another process of the same service: its application and address. It ends with this one.
    pub async fn another(&self, options: Options) -> (App, String) {
        serve(&self.db, &options, self.prefix, &self.stop).await
    }

    /// A client that does not say who it is.
    pub fn anonymous(&self) -> Client {
        Client::new(&self.url, None)
    }

    /// A client with any bearer token.
    pub fn bearer(&self, token: impl Into<String>) -> Client {
        Client::new(&self.url, Some(token.into()))
    }

    /// Registers a tenant by the API, with its owner.
    pub async fn tenant(&self, name: &str) -> Tenant<'_> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let email = format!("owner-{}@{name}.example", NUMBER.fetch_add(1, Ordering::Relaxed));
        let body = json!({ "tenant_name": name, "name": "Olive Owner", "email": email, "password": PASSWORD });
        let session = self.anonymous().post("/auth/register", body).await.expect(201);
        let data = &session["data"];
        Tenant {
            app: self,
            id: TenantId(data["tenant"]["id"].as_str().unwrap().parse().unwrap()),
            owner_id: UserId(data["user"]["id"].as_str().unwrap().parse().unwrap()),
            email,
            refresh_token: data["refresh_token"].as_str().unwrap().to_owned(),
            owner: self.bearer(data["access_token"].as_str().unwrap()),
        }
    }

    /// A tenant as by [`tenant`](Self::tenant), without the jobs that its registration left.
    pub async fn quiet_tenant(&self, name: &str) -> Tenant<'_> {
        let tenant = self.tenant(name).await;
        for table in ["job_live", "jobs"] {
            self.db.sql(format!("delete from {table} where tenant_id = '{}'", tenant.id)).await;
        }
        tenant
    }

    /// Returns when so many transactions of this test wait for a lock of another one.
    pub async fn until_blocked(&self, transactions: usize) {
        let waiting =
            "select pid::text from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        let waited = async { while self.db.sql(waiting).await.len() < transactions {} };
        tokio::time::timeout(PATIENCE, waited).await.expect("nothing waits for a lock");
    }

    /// Moves the database's clock and the process's.
    pub async fn advance(&self, by: Duration) {
        self.db.advance(by).await;
    }
}

async fn serve(db: &TestDb, options: &Options, prefix: &'static str, stop: &CancellationToken) -> (App, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let redis = redis::connect_lazy(&redis::Client::open(&options.redis_url).unwrap()).unwrap();
    let app = App::new(Parts {
        db: db.db.clone(),
        dispatcher: Dispatcher::with_prefix(redis.clone(), prefix),
        redis,
        keys: Arc::new(KeyRing::parse(&options.master_keys).unwrap()),
        storage: options.storage.clone().unwrap_or_else(millwork_shared::testing::storage),
        clock: db.clock.clone(),
        settings: Settings {
            public_url: options.public_url.clone().unwrap_or_else(|| url.clone()),
            registration: options.registration,
            nets: options.nets.clone(),
            proxies: options.proxies.clone(),
            cors: options.cors.clone(),
            limits: options.limits,
            quotas: options.quotas,
            oauth: options.oauth.clone(),
            files: options.files.clone(),
        },
    });
    if options.ready {
        app.set_ready();
    }
    let endpoint = millwork_api::app(app.clone());
    let settings = ServerSettings { grace: Duration::from_secs(1), ..options.server.clone() };
    tasks::spawn("api", server::serve(listener, endpoint, settings, stop.clone()));
    (app, url)
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Every operation of a served document: method, path and what is said of it.
pub fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, operations)| {
            let operations = operations.as_object().unwrap().iter();
            operations.map(move |(method, operation)| (method.to_uppercase(), path.clone(), operation))
        })
        .collect()
}

/// A tenant with its owner signed in.
pub struct Tenant<'a> {
    pub app: &'a TestApp,
    pub id: TenantId,
    pub owner_id: UserId,
    pub email: String,
    pub refresh_token: String,
    pub owner: Client,
}

impl Tenant<'_> {
    /// A client with a fresh API key of these permissions.
    pub async fn api_key(&self, permissions: &[&str]) -> Client {
        let body = json!({ "name": "test", "permissions": permissions });
        let key = self.owner.post("/api-keys", body).await.expect(201);
        self.app.bearer(key["data"]["secret"].as_str().unwrap())
    }

    /// A client with a fresh API key of all permissions but one.
    pub async fn key_without(&self, permission: &str) -> Client {
        self.key_without_any(&[permission]).await
    }

    /// A client with a fresh API key of all permissions but those.
    pub async fn key_without_any(&self, permissions: &[&str]) -> Client {
        let all = Permission::ALL.iter().map(|permission| permission.as_str());
        self.api_key(&all.filter(|name| !permissions.contains(name)).collect::<Vec<_>>()).await
    }

    /// Replaces the roles of a member who is signed in, as the owner.
    pub async fn give_roles(&self, member: &Client, roles: Value) -> Reply {
        self.owner.put(&format!("/users/{}/roles", member.user().await), json!({ "roles": roles })).await
    }

    /// A signed-in member of this role. Made in the database, without an invitation.
    pub async fn member(&self, role: Role) -> Client {
        let email = format!("{}@member.example", Uuid::new_v4().simple());
        let hash = millwork_api::auth::passwords::hash(millwork_shared::infra::crypto::Secret::new(PASSWORD.into()));
        let hash = hash.await.unwrap();
        let mut tx = self.app.db.db.identity().await.unwrap();
        let user = tenants::NewUser { email: &email, name: "Mel Member", password_hash: &hash };
        let user = tenants::insert_user(&mut tx, &user).await.unwrap();
        tenants::insert_membership(&mut tx, self.id, user, role).await.unwrap();
        tx.commit().await.unwrap();
        let body = json!({ "email": email, "password": PASSWORD });
        let session = self.app.anonymous().post("/auth/login", body).await.expect(200);
        self.app.bearer(session["data"]["access_token"].as_str().unwrap())
    }
}
