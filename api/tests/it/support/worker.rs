//! A worker and a scheduler beside the API: the real ones, over the same database and Redis keys.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millwork_scheduler::admit::{Admission, LONGEST_WAIT};
use millwork_shared::egress::AllowedNets;
use millwork_shared::infra::{redis, tasks};
use millwork_shared::jobs::Queue;
use millwork_worker::context::Context;
use millwork_worker::registry::registry;
use millwork_worker::runtime::{Runtime, Settings};
use millwork_worker::webhooks;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::TestApp;

impl TestApp {
    /// Starts a worker of all queues that may call loopback, and tries deliveries once only. It works until the guard is
    /// dropped.
    pub fn worker(&self) -> DropGuard {
        let nets: AllowedNets = "127.0.0.0/8".parse().unwrap();
        let webhooks = webhooks::Settings { schedule: "1h".parse().unwrap(), timeout: Duration::from_secs(5) };
        let mut context = Context::for_test(&self.db, self.app.keys.clone(), nets, webhooks).unwrap();
        context.dispatcher = self.app.dispatcher.clone();
        context.storage = self.app.storage.clone();
        let runtime = Runtime {
            settings: Settings { queues: BTreeMap::from(Queue::ALL.map(|queue| (queue, 20))), ..Settings::default() },
            registry: registry(Arc::new(context)),
            system: self.db.db.system(),
            dispatcher: self.app.dispatcher.clone(),
            redis_client: self.redis_client.clone(),
        };
        let stop = CancellationToken::new();
        tasks::spawn("worker", runtime.run(stop.clone()));
        stop.drop_guard()
    }

    /// Starts what a leading scheduler does to admit jobs. It goes on until the guard is dropped.
    pub fn scheduler(&self) -> JoinSet<()> {
        let admission = Arc::new(Admission::new(self.db.db.system(), self.app.dispatcher.clone()));
        let mut duties = JoinSet::new();
        for queue in Queue::ALL {
            let connection = redis::connect_blocking(&self.redis_client, LONGEST_WAIT).unwrap();
            tasks::join(&mut duties, admission.clone().answer_demands(queue, connection));
        }
        tasks::join(&mut duties, admission.clone().admit_due());
        tasks::join(&mut duties, admission.rescan());
        duties
    }
}
