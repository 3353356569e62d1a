//! Types of events.

use millwork_shared::events::queries;
use millwork_shared::events::schema::EventSchema;
use millwork_shared::events::{TYPE_MAX_BYTES, is_type_name};
use millwork_shared::infra::db::TenantTx;
use millwork_shared::{Error, Fault, Result};
use serde_json::{Map, Value};

use super::{Became, description, text};
use crate::imports::read::{Column, Form};

pub const COLUMNS: &[Column] = &[
    Column::required("name", Form::Text),
    Column::optional("description", Form::Text),
    Column::optional("schema", Form::Json),
];

pub fn key(row: &Map<String, Value>) -> String {
    text(row, "name")
}

pub async fn make(tx: &mut TenantTx, row: Map<String, Value>) -> Result<Became> {
    let mut faults = Vec::new();
    let (name, description) = (text(&row, "name"), description(&row, &mut faults));
    if !is_type_name(&name) {
        let detail =
            format!("is words of letters, digits, `_` and `-`, joined by dots, of {TYPE_MAX_BYTES} bytes at most");
        faults.push(Fault::new("/name", "format", detail));
    }
    let schema = row.get("schema");
    let text = schema.map(Value::to_string);
    if let Some(Err(wrong)) = text.as_deref().map(EventSchema::compile) {
        faults.extend(wrong.into_iter().map(|fault| Fault { pointer: format!("/schema{}", fault.pointer), ..fault }));
    }
    if !faults.is_empty() {
        return Ok(Became::Refused(faults));
    }
    if let Some(there) = queries::find_type(tx, &name).await? {
        let stored: Option<Value> = there.schema.as_deref().map(serde_json::from_str).transpose()?;
        if there.description == description && stored.as_ref() == schema {
            return Ok(Became::Unchanged);
        }
        let detail = format!("an event type `{name}` exists already, and says something else; change it by PATCH");
        return Err(Error::conflict("event_type_exists", detail));
    }
    queries::insert_type(tx, &name, &description, text.as_deref()).await?;
    Ok(Became::Created(Vec::new()))
}
