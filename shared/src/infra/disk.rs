//! Free space of the volumes that a process writes to.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::statvfs;
use tokio::sync::Semaphore;

/// Below both of these a volume is short of space: a small one may be small, and one hundredth of a large one is much.
const LOW_SHARE: f64 = 0.05;
const LOW_BYTES: u64 = 1024 * 1024 * 1024;

/// A volume, called by its use: its path is no business of a scrape.
#[derive(Debug, Clone)]
pub struct Volume {
    pub name: &'static str,
    path: PathBuf,
    /// A look at a volume that is gone may take for ever: there is one at a time.
    looking: Arc<Semaphore>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What we may still write.
    pub free_bytes: u64,
    pub size_bytes: u64,
}

impl Space {
    pub fn is_low(self) -> bool {
        self.free_bytes < LOW_BYTES && (self.free_bytes as f64) < self.size_bytes as f64 * LOW_SHARE
    }
}

impl Volume {
    pub fn new(name: &'static str, path: impl Into<PathBuf>) -> Self {
        Self { name, path: path.into(), looking: Arc::new(Semaphore::new(1)) }
    }

    /// Where temporary files go.
    pub fn temporary() -> Self {
        Self::new("temporary", std::env::temp_dir())
    }

    /// Looks, on a thread that may block. A look that hangs holds up those that follow: each caller has its deadline.
    ///
    /// # Errors
    /// Fails when the volume is not there.
    pub async fn look(&self) -> io::Result<Space> {
        let looking = self.looking.clone().acquire_owned().await.map_err(io::Error::other)?;
        let path = self.path.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let _looking = looking;
            space(&path)
        });
        looked.await.map_err(io::Error::other)?
    }
}

/// Of the nearest folder that exists: what is to be written there may make the others.
fn space(path: &Path) -> io::Result<Space> {
    let found = path.ancestors().find(|folder| folder.exists()).unwrap_or(path);
    let stat = statvfs(found)?;
    let of = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Space { free_bytes: of(stat.f_bavail), size_bytes: of(stat.f_blocks) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_short_of_space_when_little_is_left_both_in_bytes_and_as_a_share() {
        let (mib, gib) = (1 << 20, 1 << 30);
        for (free_bytes, size_bytes, low) in [
            (60 * mib, 64 * mib, false), // small and empty
            (2 * mib, 64 * mib, true),
            (400 * gib, 10_000 * gib, false), // four per cent of much
            (900 * mib, 100 * gib, true),
            (0, 100 * gib, true),
            (0, 0, false), // no volume that holds anything, such as /proc
        ] {
            assert_eq!(Space { free_bytes, size_bytes }.is_low(), low, "{free_bytes} of {size_bytes}");
        }
    }

    #[tokio::test]
    async fn the_volume_of_a_folder_that_is_yet_to_be_made_is_its_parents() {
        let volume = Volume::new("mail", std::env::temp_dir().join("not/made/yet"));
        let space = volume.look().await.unwrap();
        assert!(space.size_bytes > 0 && space.free_bytes <= space.size_bytes, "{space:?}");
    }
}
