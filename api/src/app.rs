//! What every endpoint may use.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millwork_shared::infra::clock::Clock;
use millwork_shared::infra::crypto::KeyRing;
use millwork_shared::infra::db::Db;
use millwork_shared::infra::redis::Redis;
use millwork_shared::jobs::dispatch::Dispatcher;

use crate::auth::cache::TokenCache;
use crate::config::Settings;
use crate::jobs::intake::Intake;
use crate::jobs::watch::JobWatch;

/// Made once at start, cheap to clone; endpoints take it as `Data<&App>`.
#[derive(Clone)]
pub struct App(Arc<State>);

pub struct State {
    pub db: Db,
    pub redis: Redis,
    pub clock: Clock,
    pub keys: Arc<KeyRing>,
    pub settings: Settings,
    pub tokens: TokenCache,
    pub dispatcher: Dispatcher,
    /// Stores jobs, many requests' at once.
    pub intake: Intake,
    /// Watches jobs for whoever streams their changes.
    pub watch: JobWatch,
    ready: AtomicBool,
}

impl App {
    pub fn new(db: Db, redis: Redis, keys: Arc<KeyRing>, clock: Clock, settings: Settings) -> Self {
        let dispatcher = Dispatcher::new(redis.clone());
        let tokens = TokenCache::new(clock.clone());
        let intake = Intake::start(db.system(), dispatcher.clone());
        let watch = JobWatch::start(db.clone());
        let ready = AtomicBool::new(false);
        Self(Arc::new(State { db, redis, clock, keys, settings, tokens, dispatcher, intake, watch, ready }))
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

impl Deref for App {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}
