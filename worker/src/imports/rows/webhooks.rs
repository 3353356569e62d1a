//! Endpoints.

use std::collections::BTreeMap;

use millwork_shared::infra::db::TenantTx;
use millwork_shared::infra::ids::WebhookId;
use millwork_shared::webhooks::check::Faults;
use millwork_shared::webhooks::queries::{self, NewWebhook};
use millwork_shared::webhooks::{EVENT_TYPES_MAX, generate_secret, sealed};
use millwork_shared::{Fault, Result};
use serde_json::{Map, Value};

use super::{Became, Maker, description, text, texts};
use crate::imports::read::{Column, Form};

pub const COLUMNS: &[Column] = &[
    Column::required("url", Form::Text),
    Column::optional("description", Form::Text),
    Column::optional("event_types", Form::List),
    Column::optional("enabled", Form::Truth),
    Column::optional("rate_limit_per_s", Form::Whole),
    Column::optional("headers", Form::Json),
    Column::optional("metadata", Form::Json),
];

const LONGEST_URL: usize = 2_048;
const FASTEST: i64 = 10_000;

pub fn key(row: &Map<String, Value>) -> String {
    let mut event_types = event_types(row);
    event_types.sort_unstable();
    event_types.dedup();
    format!("{} {}", text(row, "url"), event_types.join(" "))
}

fn event_types(row: &Map<String, Value>) -> Vec<String> {
    texts(row, "event_types").unwrap_or_else(|| vec!["*".to_owned()])
}

pub async fn make(maker: &Maker<'_>, tx: &mut TenantTx, row: Map<String, Value>) -> Result<Became> {
    let mut faults = Vec::new();
    let (url, event_types, description) = (text(&row, "url"), event_types(&row), description(&row, &mut faults));
    if url.len() > LONGEST_URL {
        faults.push(Fault::new("/url", "too_long", format!("has at most {LONGEST_URL} bytes")));
    }
    if event_types.is_empty() || event_types.len() > EVENT_TYPES_MAX {
        faults.push(Fault::new("/event_types", "length", format!("has 1 to {EVENT_TYPES_MAX} types or patterns")));
    }
    let rate = row.get("rate_limit_per_s").and_then(Value::as_i64);
    if rate.is_some_and(|rate| !(1..=FASTEST).contains(&rate)) {
        faults.push(Fault::new("/rate_limit_per_s", "range", format!("is from 1 to {FASTEST}")));
    }
    let headers: BTreeMap<String, String> = match row.get("headers").cloned().map(serde_json::from_value) {
        None => BTreeMap::new(),
        Some(Ok(headers)) => headers,
        Some(Err(_)) => {
            faults.push(Fault::new("/headers", "type", "must be an object of texts"));
            BTreeMap::new()
        }
    };
    let metadata = row.get("metadata").map(Value::to_string);
    let mut found = Faults::default();
    found.url(&url, maker.ctx.egress.nets());
    found.event_types(&event_types);
    found.headers(&headers);
    metadata.iter().for_each(|metadata| found.metadata(metadata));
    faults.extend(found.finish().err().into_iter().flatten());
    if !faults.is_empty() {
        return Ok(Became::Refused(faults));
    }
    if queries::exists_alike(tx, &url, &event_types).await? {
        return Ok(Became::Unchanged);
    }
    let (id, secret) = (WebhookId::generate(), generate_secret());
    let new = NewWebhook {
        id,
        url,
        description,
        event_types,
        enabled: row.get("enabled").and_then(Value::as_bool).unwrap_or(true),
        rate_limit_per_s: rate.and_then(|rate| rate.try_into().ok()),
        sealed_headers: sealed::seal_headers(&maker.ctx.keys, id, &headers)?,
        metadata,
        sealed_secret: sealed::seal_secret(&maker.ctx.keys, id, secret.expose())?,
    };
    queries::insert(tx, &new).await?;
    Ok(Became::Created(Vec::new()))
}
