//! Compiled schemas of event types, kept between publications.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use millwork_shared::events::queries::{Topic, find_type};
use millwork_shared::events::schema::EventSchema;
use millwork_shared::infra::db::Db;
use millwork_shared::infra::ids::EventTypeId;
use serde_json::value::RawValue;

use crate::http::{ApiError, Result};

/// Schemas kept at most: two generations of half as many.
const KEPT: usize = 2_000;

/// Which schema a payload was found to fit: that of a type, in a version. None where there is no schema.
pub type SchemaVersion = Option<(EventTypeId, i32)>;

#[derive(Debug)]
struct Compiled {
    id: EventTypeId,
    version: i32,
    schema: EventSchema,
}

/// What was found is used until its transaction finds another version; see [`super::publish`].
#[derive(Debug, Default)]
pub struct Schemas {
    generations: Mutex<Generations>,
}

/// A cache that forgets what was not asked for while a whole generation came in.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Topic, Arc<Compiled>>,
    old: HashMap<Topic, Arc<Compiled>>,
}

impl Schemas {
    /// Checks `payload` by the schema of `topic` as far as this process knows it.
    ///
    /// # Errors
    /// 422 with every fault, when the payload does not fit the schema as it is now.
    pub async fn check(&self, db: &Db, topic: &Topic, payload: &RawValue) -> Result<SchemaVersion> {
        let Some(known) = self.find(topic) else { return Ok(None) };
        if known.accepts(payload).await.is_ok() {
            return Ok(Some((known.id, known.version)));
        }
        // Nobody is refused by a schema that was changed elsewhere.
        match self.refresh(db, topic).await? {
            Some(current) => current.accepts(payload).await.map(|()| Some((current.id, current.version))),
            None => Ok(None),
        }
    }

    /// Reads the schema of `topic` again.
    pub async fn reload(&self, db: &Db, topic: &Topic) -> Result<()> {
        self.refresh(db, topic).await.map(drop)
    }

    async fn refresh(&self, db: &Db, topic: &Topic) -> Result<Option<Arc<Compiled>>> {
        let mut tx = db.tenant(topic.tenant).await?;
        let row = find_type(&mut tx, &topic.event_type).await?;
        tx.commit().await?;
        let Some((row, text)) = row.and_then(|mut row| row.schema.take().map(|text| (row, text))) else {
            self.lock().forget(topic);
            return Ok(None);
        };
        if let Some(known) = self.find(topic).filter(|known| (known.id, known.version) == (row.id, row.version)) {
            return Ok(Some(known));
        }
        let schema = EventSchema::compile(&text)
            .map_err(|faults| ApiError::internal(anyhow::anyhow!("a stored schema does not compile: {faults:?}")))?;
        let compiled = Arc::new(Compiled { id: row.id, version: row.version, schema });
        self.lock().insert(topic.clone(), compiled.clone());
        Ok(Some(compiled))
    }

    fn find(&self, topic: &Topic) -> Option<Arc<Compiled>> {
        self.lock().find(topic)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner) // each change is whole
    }
}

impl Compiled {
    async fn accepts(self: &Arc<Self>, payload: &RawValue) -> Result<()> {
        let faults = if self.schema.is_costly(payload.get()) {
            let (this, payload) = (self.clone(), payload.to_owned());
            tokio::task::spawn_blocking(move || this.schema.faults(payload.get(), "/payload"))
                .await
                .map_err(ApiError::internal)?
        } else {
            self.schema.faults(payload.get(), "/payload")
        };
        let faults = faults.map_err(ApiError::internal)?;
        if faults.is_empty() { Ok(()) } else { Err(ApiError::invalid(faults)) }
    }
}

impl Generations {
    fn find(&mut self, topic: &Topic) -> Option<Arc<Compiled>> {
        if let Some(found) = self.young.get(topic) {
            return Some(found.clone());
        }
        let (topic, found) = self.old.remove_entry(topic)?;
        self.insert(topic, found.clone());
        Some(found)
    }

    fn insert(&mut self, topic: Topic, compiled: Arc<Compiled>) {
        self.old.remove(&topic);
        if self.young.len() >= KEPT / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(topic, compiled);
    }

    fn forget(&mut self, topic: &Topic) {
        self.young.remove(topic);
        self.old.remove(topic);
    }
}

#[cfg(test)]
mod tests {
    use millwork_shared::infra::ids::TenantId;

    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_the_rest_is_forgotten() {
        let mut cache = Generations::default();
        let tenant = TenantId::generate();
        let topic = |n: usize| Topic { tenant, event_type: format!("t{n}") };
        let compiled = || {
            let schema = EventSchema::compile("{}").unwrap();
            Arc::new(Compiled { id: EventTypeId::generate(), version: 1, schema })
        };
        for n in 0..3 * KEPT {
            cache.insert(topic(n), compiled());
            cache.find(&topic(0)).expect("asked for all the time");
            assert!(cache.young.len() + cache.old.len() <= KEPT);
        }
        assert!(cache.find(&topic(1)).is_none());
        cache.forget(&topic(0));
        assert!(cache.find(&topic(0)).is_none());
    }
}
