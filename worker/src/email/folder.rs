//! Mails as files: what development uses instead of a mail server.

use std::io;
use std::path::{Path, PathBuf};

use super::compose::Composed;

/// Holds one `.eml` a mail, named by its job: a second run of the job replaces the first one's file.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whoever watches the folder sees whole mails alone.
    pub async fn store(&self, mail: &Composed) -> io::Result<()> {
        tokio::fs::create_dir_all(&self.path).await?;
        let draft = self.path.join(format!(".{}.draft", mail.job));
        tokio::fs::write(&draft, &mail.bytes).await?;
        tokio::fs::rename(&draft, self.path.join(format!("{}.eml", mail.job))).await
    }
}
