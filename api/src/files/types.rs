//! Bodies of the routes of files.

use chrono::{DateTime, Utc};
use millwork_shared::files::queries::{FileRow, VersionRow};
use millwork_shared::files::{self, KEEP_VERSIONS};
use poem_openapi::Object;
use poem_openapi::types::{Example, MaybeUndefined};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::http::{ApiError, Fault, Result, Time};

/// A file: a name over versions of its content
#[derive(Debug, Object, Serialize)]
pub struct File {
    pub id: Uuid,
    pub name: String,
    /// Of its newest version that is ready, as the next three; null until there is one
    pub size_bytes: Option<i64>,
    /// By its content
    pub media_type: Option<String>,
    /// In hexadecimal digits
    pub sha256: Option<String>,
    /// 1, 2, …
    pub number: Option<i32>,
    /// Of the version that was sent last: `uploading`, `verifying`, `ready` or `refused`
    pub state: String,
    /// Why that was refused
    pub refused: Option<String>,
    /// How many versions are kept
    pub keep_versions: i32,
    /// The person, or the API key
    pub created_by: Uuid,
    pub created_at: Time,
    pub updated_at: Time,
    /// When it is deleted by itself
    pub expires_at: Option<Time>,
    pub deleted_at: Option<Time>,
    /// For `If-Match`
    pub version: i32,
}

/// One version of a file's content
#[derive(Debug, Object, Serialize)]
pub struct Version {
    /// 1, 2, …
    pub number: i32,
    /// `uploading`, `verifying`, `ready` or `refused`
    pub state: String,
    /// By its content, once it is ready; as announced, before
    pub media_type: String,
    pub size_bytes: Option<i64>,
    /// In hexadecimal digits
    pub sha256: Option<String>,
    pub refused: Option<String>,
    pub created_by: Uuid,
    pub created_at: Time,
}

/// What changes of a file; what is left out stays.
#[derive(Debug, Object, Deserialize)]
#[oai(example)]
pub struct FileChange {
    #[oai(validator(min_length = 1, max_length = 1024))]
    pub name: Option<String>,
    #[oai(validator(minimum(value = "1"), maximum(value = "100")))]
    pub keep_versions: Option<i32>,
    /// Null: never
    #[serde(default)]
    pub expires_at: MaybeUndefined<Time>,
}

impl Example for FileChange {
    fn example() -> Self {
        Self {
            name: Some("report-2026.pdf".into()),
            keep_versions: Some(KEEP_VERSIONS),
            expires_at: MaybeUndefined::Undefined,
        }
    }
}

/// Content that a client is about to send straight to storage
#[derive(Debug, Object, Deserialize)]
#[oai(example)]
pub struct NewUpload {
    /// Of the file; not with `file_id`
    #[oai(validator(min_length = 1, max_length = 1024))]
    pub name: Option<String>,
    /// The file that gets another version
    pub file_id: Option<Uuid>,
    /// What it is; compared with its content
    #[oai(validator(min_length = 3, max_length = 255))]
    pub media_type: String,
    /// How much it is, to the byte
    #[oai(validator(minimum(value = "0")))]
    pub size_bytes: i64,
    /// SHA-256 in hexadecimal digits
    #[oai(validator(min_length = 64, max_length = 64, pattern = "^[0-9a-f]{64}$"))]
    pub sha256: String,
    pub expires_at: Option<Time>,
    #[oai(validator(minimum(value = "1"), maximum(value = "100")))]
    pub keep_versions: Option<i32>,
}

impl Example for NewUpload {
    fn example() -> Self {
        Self {
            name: Some("report-2026.pdf".into()),
            file_id: None,
            media_type: "application/pdf".into(),
            size_bytes: 1_048_576,
            sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
            expires_at: None,
            keep_versions: None,
        }
    }
}

/// Where to send it
#[derive(Debug, Object, Serialize)]
pub struct Upload {
    pub file: File,
    /// `PUT`
    pub method: String,
    pub url: String,
    /// To be sent with it, exactly as they are
    pub headers: std::collections::BTreeMap<String, String>,
    pub expires_at: Time,
}

/// A link that counts for a while, for whoever holds it
#[derive(Debug, Object, Serialize)]
pub struct ContentLink {
    pub url: String,
    pub expires_at: Time,
}

impl From<FileRow> for File {
    fn from(row: FileRow) -> Self {
        Self {
            id: row.id.0,
            name: row.name,
            size_bytes: row.size_bytes,
            media_type: row.media_type,
            sha256: row.sha256.as_deref().map(hex),
            number: row.number,
            state: row.state,
            refused: row.refused,
            keep_versions: row.keep_versions,
            created_by: row.created_by.0,
            created_at: Time(row.created_at),
            updated_at: Time(row.updated_at),
            expires_at: row.expires_at.map(Time),
            deleted_at: row.deleted_at.map(Time),
            version: row.version,
        }
    }
}

impl From<VersionRow> for Version {
    fn from(row: VersionRow) -> Self {
        Self {
            number: row.number,
            state: row.state,
            media_type: row.media_type,
            size_bytes: row.size_bytes.or(row.claimed_bytes),
            sha256: row.sha256.or(row.claimed_sha256).as_deref().map(hex),
            refused: row.refused,
            created_by: row.created_by.0,
            created_at: Time(row.created_at),
        }
    }
}

impl FileChange {
    /// The name, without a path.
    pub fn name(&self) -> Result<Option<String>> {
        self.name.as_deref().map(|name| clean_name(name, "/name")).transpose()
    }
}

/// # Errors
/// 422 for what is no name of a file.
pub fn clean_name(name: &str, pointer: &str) -> Result<String> {
    let fault = |why: &str| ApiError::invalid(vec![Fault::new(pointer, "invalid", why)]);
    files::clean_name(name).map(str::to_owned).map_err(fault)
}

/// # Errors
/// 422 for a time that has passed.
pub fn check_expiry(at: Time, now: DateTime<Utc>) -> Result<DateTime<Utc>> {
    if at.0 > now {
        return Ok(at.0);
    }
    Err(ApiError::invalid(vec![Fault::new("/expires_at", "invalid", "this time has passed")]))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
