//! What may be stored.

use std::str::FromStr;

use clap::Args;

use super::media::MediaTypes;
use crate::infra::config::Faults;

/// 50 MiB.
const DEFAULT_BYTES: u64 = 50 * 1024 * 1024;
/// What an object store takes in parts of 8 MiB.
const MOST_BYTES: u64 = 64 * 1024 * 1024 * 1024;

#[derive(Debug, Clone, Default, Args)]
pub struct FileArgs {
    /// Largest file in bytes [default: 52428800]
    #[arg(long, env = "MAX_FILE_SIZE_BYTES")]
    max_file_size_bytes: Option<String>,
    /// What may be stored: image/png,text/*,… or * [default: images, PDF, CSV, JSON, plain text, zip]
    #[arg(long, env = "ALLOWED_MEDIA_TYPES")]
    allowed_media_types: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSettings {
    pub max_size_bytes: u64,
    pub media_types: MediaTypes,
}

impl Default for FileSettings {
    fn default() -> Self {
        Self { max_size_bytes: DEFAULT_BYTES, media_types: MediaTypes::default() }
    }
}

impl FileArgs {
    pub fn read(&self, faults: &mut Faults) -> FileSettings {
        let size = faults.optional("MAX_FILE_SIZE_BYTES", &self.max_file_size_bytes, |text| {
            let size = text.parse().ok().filter(|size| (1..=MOST_BYTES).contains(size));
            size.ok_or_else(|| format!("`{text}` is not a number of bytes from 1 to {MOST_BYTES}"))
        });
        let types = faults.optional("ALLOWED_MEDIA_TYPES", &self.allowed_media_types, MediaTypes::from_str);
        FileSettings { max_size_bytes: size.unwrap_or(DEFAULT_BYTES), media_types: types.unwrap_or_default() }
    }
}
