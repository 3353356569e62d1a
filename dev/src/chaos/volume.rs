//! A disk of PostgreSQL's own that can be made to have no room.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::{command, sys};

const LIMIT: Duration = Duration::from_secs(10);
/// What it holds when it is not full.
const ROOM_MB: u64 = 2_048;
const FILL_TRIES: usize = 50;

/// A mounted tmpfs. Unmounted on drop; one that a killed run left behind is unmounted by the next.
#[derive(Debug)]
pub struct Volume {
    folder: PathBuf,
}

impl Volume {
    /// Mounts one at `folder`, which only root can.
    pub fn mount(folder: &Path) -> Result<Self> {
        ensure!(sys::user_id() == 0, "only root can mount a volume");
        unmount_leftovers();
        fs::create_dir_all(folder)?;
        run("mount", &["-t", "tmpfs", "-o", &format!("size={ROOM_MB}m,mode=755"), "millwork-chaos"], folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Takes away all room that is not in use. What is written between the look and the taking makes the kernel refuse: then
    /// it is looked again.
    pub fn fill(&self) -> Result<()> {
        let mut refused = None;
        for _ in 0..FILL_TRIES {
            match self.resize(&format!("{}k", self.used_kb()?)) {
                Ok(()) => return Ok(()),
                Err(error) => refused = Some(error),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    fn used_kb(&self) -> Result<u64> {
        let mut df = Command::new("df");
        df.args(["-k", "--output=used"]).arg(&self.folder);
        let said = command::capture(df, "", LIMIT)?;
        said.lines().nth(1).and_then(|line| line.trim().parse().ok()).context("df says nothing")
    }

    /// Gives the room back.
    pub fn empty(&self) -> Result<()> {
        self.resize(&format!("{ROOM_MB}m"))
    }

    fn resize(&self, size: &str) -> Result<()> {
        run("mount", &["-o", &format!("remount,size={size}")], &self.folder)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if run("umount", &[], &self.folder).is_err() {
            let _ = run("umount", &["-l"], &self.folder);
        }
    }
}

fn run(program: &str, arguments: &[&str], folder: &Path) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).arg(folder);
    command::capture(command, "", LIMIT).map(drop)
}

/// Those of runs that are over: the folder they are in names their process.
fn unmount_leftovers() {
    for line in fs::read_to_string("/proc/mounts").unwrap_or_default().lines() {
        let Some(folder) = line.strip_prefix("millwork-chaos ").and_then(|rest| rest.split(' ').next()) else {
            continue;
        };
        let maker = folder.split("millwork-scratch-").nth(1).and_then(|rest| rest.split('-').next()?.parse().ok());
        if maker.is_some_and(|pid| !sys::exists(pid)) {
            let _ = run("umount", &["-l"], Path::new(folder));
        }
    }
}
