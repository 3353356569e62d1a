//! Bodies of the routes of exports.

use millwork_shared::exports::queries::ExportRow;
use millwork_shared::exports::source::{Filters, Source};
use millwork_shared::exports::{Compression, Format, Resource};
use poem_openapi::types::Example;
use poem_openapi::{Enum, Object};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::http::{Fault, RawJson, Time};
use crate::jobs::types::{QueueName, StateName};

/// What is exported
#[derive(Debug, Clone, Copy, Enum, Deserialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ResourceName {
    Jobs,
    /// Those that have ended, of jobs
    Attempts,
    Events,
    /// Of webhooks
    Deliveries,
    AuditLogs,
    /// Members
    Users,
    /// What is known of them, not their content
    Files,
    /// All that is kept of one person, as one JSON object
    PersonalData,
}

#[derive(Debug, Clone, Copy, Enum, Deserialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum FormatName {
    Csv,
    Json,
    Ndjson,
}

#[derive(Debug, Clone, Copy, Enum, Deserialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum CompressionName {
    Gzip,
    Zip,
}

/// What to export
#[derive(Debug, Object, Deserialize)]
#[oai(example)]
pub struct NewExport {
    pub resource: ResourceName,
    /// `csv` has a line of names, and a quote before whatever a spreadsheet would take for a formula. Personal data is `json`
    pub format: Option<FormatName>,
    pub compress: Option<CompressionName>,
    pub filters: Option<ExportFilters>,
    /// Of personal data: whose, a member's
    pub user_id: Option<Uuid>,
}

/// What is to be exported, checked.
pub struct Wanted {
    pub resource: Resource,
    pub format: Format,
    pub compress: Option<Compression>,
    pub filters: Filters,
}

impl Wanted {
    /// All that is kept of a person.
    pub fn personal_data(user_id: Option<Uuid>, compress: Option<Compression>) -> Self {
        let filters = Filters { user_id, ..Filters::default() };
        Self { resource: Resource::PersonalData, format: Format::Json, compress, filters }
    }
}

/// Which rows; those of the resource's list
#[derive(Debug, Default, Object, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportFilters {
    /// Made at or after
    pub from: Option<Time>,
    /// Made before
    pub to: Option<Time>,
    /// Of jobs and deliveries
    pub state: Option<StateName>,
    /// Of jobs
    #[oai(validator(min_length = 1, max_length = 255))]
    pub kind: Option<String>,
    /// Of jobs
    pub queue: Option<QueueName>,
    /// Of jobs
    #[oai(validator(min_length = 1, max_length = 64))]
    pub tag: Option<String>,
    /// Of events and deliveries
    #[oai(validator(min_length = 1, max_length = 255))]
    pub event_type: Option<String>,
    /// Of deliveries
    pub webhook_id: Option<Uuid>,
    /// Of audit entries
    #[oai(validator(min_length = 1, max_length = 100))]
    pub action: Option<String>,
    /// Of audit entries
    pub actor_id: Option<Uuid>,
}

/// Rows on their way into a file
#[derive(Debug, Object, Serialize)]
pub struct Export {
    pub id: Uuid,
    pub resource: String,
    pub format: String,
    pub compress: Option<String>,
    /// Those that were given
    pub filters: RawJson,
    /// `scheduled`, `queued`, `running`, `retrying`, `ready`, `failed`, `cancelled` or `expired`
    pub state: String,
    /// Rows so far
    pub rows: i64,
    /// Of the file, once it is ready
    pub size_bytes: Option<i64>,
    /// The job that writes it
    pub job_id: Uuid,
    pub requested_by: Uuid,
    /// Why it failed, or the attempt before this one
    pub last_error: Option<RawJson>,
    pub created_at: Time,
    pub ready_at: Option<Time>,
    /// Until when it can be downloaded
    pub expires_at: Option<Time>,
}

impl Example for NewExport {
    fn example() -> Self {
        let filters = ExportFilters { state: Some(StateName::Failed), ..ExportFilters::default() };
        Self {
            resource: ResourceName::Jobs,
            format: Some(FormatName::Csv),
            compress: Some(CompressionName::Gzip),
            filters: Some(filters),
            user_id: None,
        }
    }
}

impl From<ResourceName> for Resource {
    fn from(name: ResourceName) -> Self {
        match name {
            ResourceName::Jobs => Self::Jobs,
            ResourceName::Attempts => Self::Attempts,
            ResourceName::Events => Self::Events,
            ResourceName::Deliveries => Self::Deliveries,
            ResourceName::AuditLogs => Self::AuditLogs,
            ResourceName::Users => Self::Users,
            ResourceName::Files => Self::Files,
            ResourceName::PersonalData => Self::PersonalData,
        }
    }
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Csv => Self::Csv,
            FormatName::Json => Self::Json,
            FormatName::Ndjson => Self::Ndjson,
        }
    }
}

impl From<CompressionName> for Compression {
    fn from(name: CompressionName) -> Self {
        match name {
            CompressionName::Gzip => Self::Gzip,
            CompressionName::Zip => Self::Zip,
        }
    }
}

impl NewExport {
    /// What it asks for.
    ///
    /// # Errors
    /// What is missing, what the resource does not know, and an empty time.
    pub fn wanted(&self) -> Result<Wanted, Vec<Fault>> {
        let resource = Resource::from(self.resource);
        let Some(source) = Source::of(resource) else { return self.personal() };
        let mut faults = Vec::new();
        if self.user_id.is_some() {
            faults.push(Fault::new("/user_id", "not_allowed", "is for `personal_data` alone"));
        }
        if self.format.is_none() {
            faults.push(Fault::new("/format", "required", "is `csv`, `json` or `ndjson`"));
        }
        let filters = self.filters.as_ref().map(ExportFilters::stored).unwrap_or_default();
        faults.extend(filters.names().into_iter().filter(|name| !source.filters.contains(name)).map(|name| {
            let detail = match source.filters {
                [] => format!("{} have no filters", resource.as_str()),
                known => format!("the filters of {} are {}", resource.as_str(), known.join(", ")),
            };
            Fault::new(format!("/filters/{name}"), "not_allowed", detail)
        }));
        if let (Some(from), Some(to)) = (filters.from, filters.to)
            && from >= to
        {
            faults.push(Fault::new("/filters/to", "empty", "is not after `from`"));
        }
        match self.format {
            Some(format) if faults.is_empty() => {
                Ok(Wanted { resource, format: format.into(), compress: self.compress.map(Into::into), filters })
            }
            _ => Err(faults),
        }
    }

    fn personal(&self) -> Result<Wanted, Vec<Fault>> {
        let mut faults = Vec::new();
        if self.user_id.is_none() {
            faults.push(Fault::new("/user_id", "required", "says whose data is to be exported"));
        }
        if !matches!(self.format, None | Some(FormatName::Json)) {
            faults.push(Fault::new("/format", "not_allowed", "personal data is `json`"));
        }
        if self.filters.is_some() {
            faults.push(Fault::new("/filters", "not_allowed", "personal data has no filters: all of it is exported"));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Wanted::personal_data(self.user_id, self.compress.map(Into::into)))
    }
}

impl ExportFilters {
    /// As they are kept.
    fn stored(&self) -> Filters {
        Filters {
            from: self.from.map(|time| time.0),
            to: self.to.map(|time| time.0),
            state: self.state.map(Into::into),
            kind: self.kind.clone(),
            queue: self.queue.map(|queue| millwork_shared::jobs::Queue::from(queue).to_string()),
            tag: self.tag.clone(),
            event_type: self.event_type.clone(),
            webhook_id: self.webhook_id,
            action: self.action.clone(),
            actor_id: self.actor_id,
            user_id: None,
        }
    }
}

impl From<ExportRow> for Export {
    fn from(row: ExportRow) -> Self {
        let so_far = || serde_json::from_str::<serde_json::Value>(row.job.progress.as_deref()?).ok()?["rows"].as_i64();
        Self {
            id: row.id.0,
            state: row.state().to_owned(),
            rows: if row.ready_at.is_some() { row.exported } else { so_far().unwrap_or_default() },
            resource: row.resource,
            format: row.format,
            compress: row.compress,
            filters: RawJson::stored(row.filters),
            size_bytes: row.size_bytes,
            job_id: row.job_id.0,
            requested_by: row.requested_by.0,
            last_error: row.job.error.map(RawJson::stored),
            created_at: Time(row.created_at),
            ready_at: row.ready_at.map(Time),
            expires_at: row.expires_at.map(Time),
        }
    }
}
