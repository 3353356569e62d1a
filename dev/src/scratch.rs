//! A folder of one's own that goes when its value does.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::services::owner::Owner;
use crate::sys;

/// A temporary folder that PostgreSQL's user can enter, deleted on drop.
///
/// Declare it before the servers that live in it, or as a later field of the same struct, so that it outlives them.
/// Folders whose process was killed are removed by the next one to be made.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

const MARK: &str = "millwork-scratch-";

impl Scratch {
    pub fn new(label: &str) -> Result<Self> {
        Self::below(&base([std::env::temp_dir(), "/tmp".into(), "/var/tmp".into()])?, label)
    }

    /// Not in memory, where `/tmp` may be: for measuring.
    pub fn on_disk(label: &str) -> Result<Self> {
        Self::below(&base(["/var/tmp".into(), std::env::temp_dir(), "/tmp".into()])?, label)
    }

    fn below(base: &Path, label: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        sweep(base);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("{MARK}{}-{count}-{label}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The first of `places` that PostgreSQL's user may enter; `TMPDIR` may be private to this one.
fn base(places: [PathBuf; 3]) -> Result<PathBuf> {
    let owner = Owner::of_postgres()?;
    places
        .into_iter()
        .filter_map(|place| place.canonicalize().ok())
        .find(|place| owner.can_enter(place))
        .context("PostgreSQL's user can enter neither TMPDIR nor /tmp nor /var/tmp; set TMPDIR to a folder open to all")
}

/// Removes what dead processes left. Best effort: another user's folders stay.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix(MARK)?.split('-').next()?.parse().ok());
        if maker.is_some_and(|pid| !sys::exists(pid)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
