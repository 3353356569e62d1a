//! What becomes of a row.

/// Types of events.
mod event_types;
/// People, who are invited.
mod users;
/// Endpoints.
mod webhooks;

use millwork_shared::imports::{Resource, queries};
use millwork_shared::infra::db::TenantTx;
use millwork_shared::infra::ids::UserId;
use millwork_shared::jobs::{Cause, NewJob};
use millwork_shared::tenants::Permissions;
use millwork_shared::{Error, Fault, Result};
use serde_json::{Map, Value};

use super::read::Column;
use crate::context::Context;

/// Characters of a description.
const MOST_DESCRIPTION: usize = 1_000;

/// What became of a row.
#[derive(Debug)]
pub enum Became {
    /// With jobs to be offered after the commit.
    Created(Vec<NewJob>),
    /// It was there already.
    Unchanged,
    Refused(Vec<Fault>),
}

/// In whose name rows are made.
pub struct Maker<'a> {
    pub user: UserId,
    pub may: Permissions,
    pub cause: &'a Cause,
    pub ctx: &'a Context,
}

impl Maker<'_> {
    /// Makes what the row says, unless it is there. What is refused leaves nothing behind.
    pub async fn make(&self, resource: Resource, tx: &mut TenantTx, row: Map<String, Value>) -> Result<Became> {
        queries::begin_row(tx).await?;
        let made = match resource {
            Resource::Users => users::make(self, tx, row).await,
            Resource::Webhooks => webhooks::make(self, tx, row).await,
            Resource::EventTypes => event_types::make(tx, row).await,
        };
        let became = match made {
            Ok(became) => became,
            Err(Error::Conflict { code, detail }) => Became::Refused(vec![Fault::new("", code, detail)]),
            Err(Error::Invalid { field, reason }) => {
                Became::Refused(vec![Fault::new(format!("/{field}"), "invalid", reason)])
            }
            Err(error) => return Err(error),
        };
        queries::end_row(tx, !matches!(became, Became::Refused(_))).await?;
        Ok(became)
    }
}

/// The fields of a row.
pub const fn columns(resource: Resource) -> &'static [Column] {
    match resource {
        Resource::Users => users::COLUMNS,
        Resource::Webhooks => webhooks::COLUMNS,
        Resource::EventTypes => event_types::COLUMNS,
    }
}

/// What tells two rows apart.
pub fn key(resource: Resource, row: &Map<String, Value>) -> String {
    match resource {
        Resource::Users => users::key(row),
        Resource::Webhooks => webhooks::key(row),
        Resource::EventTypes => event_types::key(row),
    }
}

fn text(row: &Map<String, Value>, name: &str) -> String {
    row.get(name).and_then(Value::as_str).unwrap_or_default().trim().to_owned()
}

fn texts(row: &Map<String, Value>, name: &str) -> Option<Vec<String>> {
    let texts = row.get(name)?.as_array()?;
    Some(texts.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

fn description(row: &Map<String, Value>, faults: &mut Vec<Fault>) -> String {
    let description = text(row, "description");
    if description.chars().count() > MOST_DESCRIPTION {
        let detail = format!("has at most {MOST_DESCRIPTION} characters");
        faults.push(Fault::new("/description", "too_long", detail));
    }
    description
}
