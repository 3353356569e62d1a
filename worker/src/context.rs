//! What handlers may use.

use std::sync::Arc;
use std::time::Duration;

use millwork_shared::infra::clock::Clock;
use millwork_shared::infra::config::PublicUrl;
use millwork_shared::infra::crypto::KeyRing;
use millwork_shared::infra::db::{Db, SystemDb};

use crate::egress::Egress;
use crate::email::Mailer;
use crate::webhooks::Deliveries;

/// Made once at start, shared by all handlers.
pub struct Context {
    pub db: Db,
    /// For handlers that work across tenants: batched reads of deliveries, maintenance.
    pub system: SystemDb,
    pub keys: Arc<KeyRing>,
    pub clock: Clock,
    /// How long finished jobs, events and deliveries are kept.
    pub retention: Duration,
    /// Calls third parties.
    pub egress: Egress,
    pub deliveries: Deliveries,
    pub mailer: Mailer,
    /// What links in mails start with.
    pub public_url: PublicUrl,
}
