//! Bodies of the routes of imports.

use millwork_shared::imports::queries::ImportRow;
use millwork_shared::imports::{Format, Mode, Resource};
use poem_openapi::types::Example;
use poem_openapi::{Enum, Object};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::http::{RawJson, Time};

/// What is imported
#[derive(Debug, Clone, Copy, Enum, Deserialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ImportedName {
    /// They are invited
    Users,
    Webhooks,
    EventTypes,
}

#[derive(Debug, Clone, Copy, Enum, Deserialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ImportFormat {
    /// With a line of names
    Csv,
    /// An object a line
    Ndjson,
}

#[derive(Debug, Clone, Copy, Enum, Deserialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ImportMode {
    /// Nothing is made; the report says what would fail
    DryRun,
    Commit,
}

/// What to import
#[derive(Debug, Object, Deserialize)]
#[oai(example)]
pub struct NewImport {
    /// The newest version that is ready is read
    pub file_id: Uuid,
    pub resource: ImportedName,
    pub mode: ImportMode,
    /// By the file's type or name, unless given
    pub format: Option<ImportFormat>,
}

/// A file's rows on their way in
#[derive(Debug, Object, Serialize)]
pub struct Import {
    pub id: Uuid,
    pub file_id: Uuid,
    /// Of the version that is read
    pub number: i32,
    pub resource: String,
    pub format: String,
    pub mode: String,
    /// `scheduled`, `queued`, `running`, `retrying`, `finished`, `failed` or `cancelled`
    pub state: String,
    /// Rows so far
    pub rows: i64,
    pub created: i64,
    /// Rows that say what is there already
    pub unchanged: i64,
    pub failed: i64,
    /// Whether there is a report on what failed
    pub has_report: bool,
    /// The job that makes it
    pub job_id: Uuid,
    pub requested_by: Uuid,
    /// Why it failed, or the attempt before this one
    pub last_error: Option<RawJson>,
    pub created_at: Time,
    pub finished_at: Option<Time>,
}

impl Example for NewImport {
    fn example() -> Self {
        Self { file_id: Uuid::nil(), resource: ImportedName::Users, mode: ImportMode::DryRun, format: None }
    }
}

impl From<ImportedName> for Resource {
    fn from(name: ImportedName) -> Self {
        match name {
            ImportedName::Users => Self::Users,
            ImportedName::Webhooks => Self::Webhooks,
            ImportedName::EventTypes => Self::EventTypes,
        }
    }
}

impl From<ImportFormat> for Format {
    fn from(format: ImportFormat) -> Self {
        match format {
            ImportFormat::Csv => Self::Csv,
            ImportFormat::Ndjson => Self::Ndjson,
        }
    }
}

impl From<ImportMode> for Mode {
    fn from(mode: ImportMode) -> Self {
        match mode {
            ImportMode::DryRun => Self::DryRun,
            ImportMode::Commit => Self::Commit,
        }
    }
}

impl From<ImportRow> for Import {
    fn from(row: ImportRow) -> Self {
        Self {
            id: row.id.0,
            file_id: row.file_id.0,
            number: row.number,
            state: row.state().to_owned(),
            resource: row.resource,
            format: row.format,
            mode: row.mode,
            rows: row.position,
            created: row.counts.created,
            unchanged: row.counts.unchanged,
            failed: row.counts.failed,
            has_report: row.has_report,
            job_id: row.job_id.0,
            requested_by: row.requested_by.0,
            last_error: row.refused.or(row.job.error).map(RawJson::stored),
            created_at: Time(row.created_at),
            finished_at: row.finished_at.map(Time),
        }
    }
}
