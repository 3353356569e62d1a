//! What every endpoint may use.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millwork_shared::infra::clock::Clock;
use millwork_shared::infra::crypto::KeyRing;
use millwork_shared::infra::db::Db;
use millwork_shared::infra::disk::Volume;
use millwork_shared::infra::health::Probes;
use millwork_shared::infra::redis::Redis;
use millwork_shared::infra::storage::Storage;
use millwork_shared::infra::tasks;
use millwork_shared::jobs::dispatch::Dispatcher;
use millwork_shared::jobs::followers::Followers;

use poem::Request;
use tokio::task::JoinSet;

use crate::auth::cache::TokenCache;
use crate::auth::oauth::OAuth;
use crate::auth::revocation;
use crate::auth::signing::Signing;
use crate::config::Settings;
use crate::events::publish::Publisher;
use crate::events::schemas::Schemas;
use crate::http::ApiError;
use crate::jobs::intake::Intake;
use crate::jobs::watch::JobWatch;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::quotas::meter::{Meter, SWEEP};
use crate::quotas::requests::Requests;

/// Made once at start, cheap to clone; endpoints take it as `Data<&App>`.
#[derive(Clone)]
pub struct App(Arc<State>);

pub struct State {
    pub db: Db,
    pub redis: Redis,
    pub dispatcher: Dispatcher,
    pub clock: Clock,
    pub keys: Arc<KeyRing>,
    /// Where the bytes of objects are.
    pub storage: Storage,
    pub settings: Settings,
    /// Recently checked tokens.
    pub tokens: Arc<TokenCache>,
    /// Stores jobs, many requests' at once.
    pub intake: Intake,
    /// Tells the ends of jobs to those who wait for them.
    pub followers: Followers,
    /// Watches jobs for whoever streams their changes.
    pub watch: JobWatch,
    /// How much callers may ask for.
    pub limits: Limits,
    /// Units of quotas that this process may hand out.
    pub meter: Arc<Meter>,
    /// Requests of tenants that are not written yet.
    pub requests: Arc<Requests>,
    pub signing: Signing,
    /// Providers that people may sign in by.
    pub oauth: OAuth,
    /// Stores events.
    pub publisher: Publisher,
    /// Schemas of event types.
    pub schemas: Schemas,
    /// What health routes and metrics look at.
    pub probes: Probes,
    _looks: JoinSet<()>,
    _news: JoinSet<()>,
    ready: AtomicBool,
}

/// What an [`App`] is made of.
pub struct Parts {
    pub db: Db,
    pub redis: Redis,
    pub dispatcher: Dispatcher,
    pub keys: Arc<KeyRing>,
    pub storage: Storage,
    pub clock: Clock,
    pub settings: Settings,
}

impl App {
    /// Also starts the writers of jobs and events, the looks at what they depend on and the ear for revocations, and so must
    /// be called within the runtime.
    pub fn new(parts: Parts) -> Self {
        let Parts { db, redis, dispatcher, keys, storage, clock, settings } = parts;
        let intake = Intake::start(db.system(), dispatcher.clone());
        let followers = Followers::start(db.system(), dispatcher.clone());
        let watch = JobWatch::start(db.clone());
        let publisher = Publisher::start(db.system(), dispatcher.clone(), keys.clone(), &settings.public_url);
        let tokens = Arc::new(TokenCache::new(clock.clone()));
        let meter = Arc::new(Meter::new(db.clone(), dispatcher.clone(), clock.clone(), settings.quotas));
        let requests = Arc::new(Requests::default());
        let volumes = [Volume::temporary()].into_iter().chain(storage.volume()).collect();
        let probes = Probes { db: db.clone(), dispatcher: dispatcher.clone(), volumes, storage: Some(storage.clone()) };
        let mut looks = Metrics::watch(&probes);
        tasks::join(&mut looks, settle(db.clone(), meter.clone(), requests.clone()));
        Self(Arc::new(State {
            limits: Limits::new(redis.clone(), dispatcher.prefix(), db.clone(), clock.clone(), settings.limits),
            _looks: looks,
            _news: revocation::listen(&redis, &tokens),
            meter,
            requests,
            probes,
            db,
            redis,
            dispatcher,
            intake,
            followers,
            watch,
            tokens,
            signing: Signing::default(),
            oauth: OAuth::new(&settings.oauth, &settings.nets),
            publisher,
            schemas: Schemas::default(),
            clock,
            keys,
            storage,
            settings,
            ready: AtomicBool::new(false),
        }))
    }

    /// The application of a request, for endpoints outside of poem-openapi.
    pub fn of(request: &Request) -> Result<&Self, ApiError> {
        request.data().ok_or_else(|| ApiError::internal(anyhow::anyhow!("a request without its App")))
    }

    /// The public address of `path`, such as `/api/v1/jobs/…`: what `Location` and links start with.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.settings.public_url)
    }

    /// Whether the schema was found to be the one this build needs; until then the API answers 503.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }
}

/// Gives back units of quotas that were not used, and writes what was counted, for ever.
async fn settle(db: Db, meter: Arc<Meter>, requests: Arc<Requests>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        meter.give_back(false).await;
        requests.write(&db).await;
    }
}

impl Deref for App {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}
