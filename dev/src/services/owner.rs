//! The ordinary user PostgreSQL runs as when the caller is root, which PostgreSQL refuses.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::{command, interrupt, sys};

/// Who owns and runs PostgreSQL's data: the caller, or when that is root an ordinary user of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    Caller,
    Other { name: String, uid: u32, gid: u32 },
}

impl Owner {
    /// `postgres` where the system has it, else `nobody`: one of them exists wherever PostgreSQL's binaries do.
    pub fn of_postgres() -> Result<Self> {
        if sys::user_id() != 0 {
            return Ok(Self::Caller);
        }
        let users = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        ["postgres", "_postgres", "nobody"]
            .iter()
            .find_map(|name| Self::from_passwd(&users, name))
            .context("PostgreSQL does not run as root, and this system has neither a user postgres nor nobody: add one")
    }

    fn from_passwd(users: &str, wanted: &str) -> Option<Self> {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| *name == wanted)?;
            let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            Some(Self::Other { name: name.to_owned(), uid, gid })
        })
    }

    /// Makes `command` run as this user.
    pub fn run(&self, command: &mut Command) {
        if let Self::Other { uid, gid, .. } = self {
            // std drops the supplementary groups of root along with its user id.
            command.uid(*uid).gid(*gid).env("HOME", "/").env_remove("XDG_RUNTIME_DIR");
        }
    }

    /// Whether this user can make `folder` its working directory.
    pub fn can_enter(&self, folder: &Path) -> bool {
        let mut probe = Command::new("/bin/sh");
        probe.args(["-c", "cd \"$1\"", "sh"]).arg(folder).current_dir("/");
        self.run(&mut probe);
        command::capture(probe, "", Duration::from_secs(10)).is_ok()
    }

    /// Makes the private folder for data that is to live at `wanted`: there if this user can reach it, else in
    /// /var/tmp under a name made from it (a checkout under root's home).
    pub fn private_folder(&self, wanted: &Path) -> Result<PathBuf> {
        fs::create_dir_all(wanted).with_context(|| format!("cannot create {}", wanted.display()))?;
        let wanted = wanted.canonicalize()?;
        self.take(&wanted)?;
        if self.can_enter(&wanted) {
            return Ok(wanted);
        }
        interrupt::check()?; // a probe cut short says nothing
        let elsewhere = elsewhere(&wanted);
        fs::create_dir_all(&elsewhere).with_context(|| format!("cannot create {}", elsewhere.display()))?;
        self.take(&elsewhere)?;
        ensure!(self.can_enter(&elsewhere), "{} cannot enter {}", self.name(), elsewhere.display());
        Ok(elsewhere)
    }

    /// Owned by this user, closed to others. Refuses a folder or link that a third party put there.
    fn take(&self, folder: &Path) -> Result<()> {
        let found = fs::symlink_metadata(folder)?;
        let known = [sys::user_id(), self.uid()].contains(&found.uid());
        ensure!(
            found.is_dir() && known,
            "{} belongs to user {}, not to {}; remove it",
            folder.display(),
            found.uid(),
            self.name()
        );
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        self.own(folder)
    }

    /// Hands one file or folder to this user.
    pub fn own(&self, path: &Path) -> Result<()> {
        match self {
            Self::Caller => Ok(()),
            Self::Other { name, uid, gid } => {
                chown(path, Some(*uid), Some(*gid)).with_context(|| format!("cannot give {} to {name}", path.display()))
            }
        }
    }

    fn uid(&self) -> u32 {
        match self {
            Self::Caller => sys::user_id(),
            Self::Other { uid, .. } => *uid,
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Caller => "the caller",
            Self::Other { name, .. } => name,
        }
    }
}

fn elsewhere(wanted: &Path) -> PathBuf {
    let digest = Sha256::digest(wanted.as_os_str().as_encoded_bytes());
    let hash: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    PathBuf::from(format!("/var/tmp/millwork-{}-{hash}", sys::user_id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_read_from_the_password_file() {
        let users = "root:x:0:0:root:/root:/bin/sh\npostgres:x:101:104::/var/lib/postgresql:/bin/bash\n";
        let postgres = Owner::Other { name: "postgres".into(), uid: 101, gid: 104 };
        assert_eq!(Owner::from_passwd(users, "postgres"), Some(postgres));
        assert_eq!(Owner::from_passwd(users, "post"), None);
    }

    #[test]
    fn the_folder_elsewhere_is_the_same_every_time_and_differs_by_checkout() {
        assert_eq!(elsewhere(Path::new("/root/a")), elsewhere(Path::new("/root/a")));
        assert_ne!(elsewhere(Path::new("/root/a")), elsewhere(Path::new("/root/b")));
    }
}
