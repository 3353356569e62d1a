//! What handlers may use.

use std::sync::Arc;

use millwork_shared::files::media::MediaTypes;
use millwork_shared::infra::clock::Clock;
use millwork_shared::infra::config::PublicUrl;
use millwork_shared::infra::crypto::KeyRing;
use millwork_shared::infra::db::{Db, SystemDb};
use millwork_shared::infra::storage::Storage;
use millwork_shared::jobs::dispatch::Dispatcher;
use millwork_shared::maintenance::Retention;

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
    pub retention: Retention,
    /// Calls third parties.
    pub egress: Egress,
    pub deliveries: Deliveries,
    pub mailer: Mailer,
    /// Where the bytes of objects are.
    pub storage: Storage,
    /// What may be stored.
    pub media_types: MediaTypes,
    /// What links in mails start with.
    pub public_url: PublicUrl,
    /// For jobs that make others due.
    pub dispatcher: Dispatcher,
}

#[cfg(feature = "testing")]
impl Context {
    /// A context over a test's database that may call `nets` and has nowhere to send mail to.
    ///
    /// # Errors
    /// Fails when the system's certificates cannot be read.
    pub fn for_test(
        db: &millwork_shared::testing::TestDb,
        keys: Arc<KeyRing>,
        nets: millwork_shared::egress::AllowedNets,
        webhooks: crate::webhooks::Settings,
    ) -> anyhow::Result<Self> {
        let mut faults = millwork_shared::infra::config::Faults::default();
        let mail = crate::email::MailArgs {
            mail_url: Some("file:///nowhere".into()),
            mail_from: Some("Millwork <no-reply@example.com>".into()),
        };
        let mailer = mail.read(&mut faults);
        faults.finish()?;
        Ok(Self {
            db: db.db.clone(),
            system: db.db.system(),
            keys,
            clock: db.clock.clone(),
            retention: Retention::default(),
            egress: Egress::new(nets)?,
            deliveries: Deliveries::new(webhooks, db.db.system(), millwork_shared::testing::redis()),
            storage: millwork_shared::testing::storage(),
            media_types: MediaTypes::default(),
            mailer: mailer.ok_or_else(|| anyhow::anyhow!("no mailer"))?,
            public_url: "http://millwork.example".parse().map_err(anyhow::Error::msg)?,
            dispatcher: Dispatcher::with_prefix(
                millwork_shared::testing::redis(),
                millwork_shared::testing::key_prefix(),
            ),
        })
    }
}
