//! Where the servers' binaries are.

use std::env;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::{command, interrupt};

/// Folder with `postgres` and `initdb`, instead of searching.
pub const PG_BIN: &str = "MILLWORK_PG_BIN";
/// The server's binary, instead of searching.
pub const REDIS_SERVER: &str = "MILLWORK_REDIS_SERVER";
/// The load generator's program, instead of searching.
pub const WRK: &str = "MILLWORK_WRK";

/// libfaketime for programs with threads, instead of searching.
pub const FAKETIME_LIBRARY: &str = "MILLWORK_FAKETIME";

pub const PG_OLDEST: u32 = 15;
pub const REDIS_OLDEST: u32 = 7;
/// For the programs of `bench`.
pub const NODE_OLDEST: u32 = 20;
/// For the identity provider of the tests.
pub const NODE_OLDEST_OF_TESTS: u32 = 18;

/// Folders outside PATH where packages put PostgreSQL; `*` is a version, the newest is taken first.
const PG_FOLDERS: [&str; 9] = [
    "/usr/lib/postgresql/*/bin",                          // Debian, Ubuntu
    "/usr/pgsql-*/bin",                                   // PGDG on Red Hat
    "/usr/libexec/postgresql*",                           // Alpine
    "/usr/lib/postgresql*/bin",                           // SUSE
    "/opt/homebrew/opt/postgresql@*/bin",                 // Homebrew on Apple silicon
    "/usr/local/opt/postgresql@*/bin",                    // Homebrew on Intel
    "/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",    // Homebrew on Linux
    "/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
    "/usr/local/pgsql/bin",                               // built from source
];
const REDIS_FOLDERS: [&str; 4] = ["/usr/sbin", "/opt/homebrew/bin", "/usr/local/bin", "/home/linuxbrew/.linuxbrew/bin"];
/// By preference. Debian's redis-tools holds the whole server under the last name; see [`RedisServer::command`].
const REDIS_NAMES: [&str; 3] = ["redis-server", "valkey-server", "redis-check-rdb"];

/// PostgreSQL's server binaries, new enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresBinaries {
    pub folder: PathBuf,
    /// As the server says it: `15.18`.
    pub version: String,
}

impl PostgresBinaries {
    /// `None` when none is installed. An unusable `MILLWORK_PG_BIN` is an error.
    pub fn find() -> Result<Option<Self>> {
        if let Some(folder) = env::var_os(PG_BIN) {
            let folder = PathBuf::from(folder);
            let found = Self::at(&folder)
                .with_context(|| format!("{PG_BIN}={}: no PostgreSQL server there", folder.display()))?;
            ensure!(
                found.major() >= PG_OLDEST,
                "{PG_BIN}={}: is {}, {PG_OLDEST} is needed",
                folder.display(),
                found.version
            );
            return Ok(Some(found));
        }
        let folders = on_path().into_iter().chain(PG_FOLDERS.iter().flat_map(|pattern| expand(pattern)));
        let found = folders.filter_map(|folder| Self::at(&folder)).find(|found| found.major() >= PG_OLDEST);
        interrupt::check()?; // otherwise a search cut short would look like nothing found
        Ok(found)
    }

    fn at(folder: &Path) -> Option<Self> {
        // A link on PATH leads to the folder that has all of PostgreSQL's programs.
        let postgres = folder.join("postgres").canonicalize().ok()?;
        let folder = postgres.parent().filter(|folder| folder.join("initdb").is_file())?;
        let version_line = version_line(Command::new(&postgres))?;
        let mut words = version_line.split_whitespace();
        let version = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?.to_owned();
        Some(Self { folder: folder.to_owned(), version })
    }

    pub fn major(&self) -> u32 {
        major(&self.version)
    }

    pub fn command(&self, name: &str) -> Command {
        Command::new(self.folder.join(name))
    }
}

/// A Redis server binary (or Valkey's, which is the same protocol), new enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisServer {
    pub path: PathBuf,
    /// As the server says it: `7.0.15`.
    pub version: String,
}

impl RedisServer {
    /// `None` when none is installed. An unusable `MILLWORK_REDIS_SERVER` is an error.
    pub fn find() -> Result<Option<Self>> {
        if let Some(path) = env::var_os(REDIS_SERVER) {
            let path = PathBuf::from(path);
            let found =
                Self::at(&path).with_context(|| format!("{REDIS_SERVER}={}: is no Redis server", path.display()))?;
            ensure!(
                found.major() >= REDIS_OLDEST,
                "{REDIS_SERVER}={}: is {}, {REDIS_OLDEST} is needed",
                path.display(),
                found.version
            );
            return Ok(Some(found));
        }
        let folders: Vec<_> = on_path().into_iter().chain(REDIS_FOLDERS.iter().map(PathBuf::from)).collect();
        let paths = REDIS_NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
        let found = paths.filter_map(|path| Self::at(&path)).find(|found| found.major() >= REDIS_OLDEST);
        interrupt::check()?;
        Ok(found)
    }

    fn at(path: &Path) -> Option<Self> {
        path.is_file().then_some(())?;
        let found = Self { path: path.to_owned(), version: String::new() };
        let says = version_line(found.command())?;
        let version = says.split_whitespace().find_map(|word| word.strip_prefix("v="))?.to_owned();
        Some(Self { version, ..found })
    }

    pub fn major(&self) -> u32 {
        major(&self.version)
    }

    /// Always under the server's name: the binary decides by the name it is called by whether it is the server or the
    /// checker of dumps.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        if self.path.ends_with("redis-check-rdb") {
            command.arg0("redis-server");
        }
        command
    }
}

/// The load generator `wrk`; `None` when it is not installed. An unusable `MILLWORK_WRK` is an error.
pub fn wrk() -> Result<Option<PathBuf>> {
    if let Some(path) = env::var_os(WRK) {
        let path = PathBuf::from(path);
        ensure!(path.is_file(), "{WRK}={}: is no program", path.display());
        return Ok(Some(path));
    }
    Ok(on_path().into_iter().map(|folder| folder.join("wrk")).find(|path| path.is_file()))
}

/// libfaketime in its form for programs with threads.
pub fn faketime() -> Option<PathBuf> {
    if let Some(path) = env::var_os(FAKETIME_LIBRARY) {
        return Some(PathBuf::from(path));
    }
    let folders = ["/usr/lib/*/faketime", "/usr/lib64/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime"];
    let files = folders.iter().flat_map(|pattern| expand(pattern)).map(|folder| folder.join("libfaketimeMT.so.1"));
    files.into_iter().find(|path| path.is_file())
}

/// Node.js with its package manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub program: PathBuf,
    pub npm: PathBuf,
    /// As it says it: `20.11.1`.
    pub version: String,
}

impl Node {
    /// `None` when either is not on PATH, or is older than the major version `oldest`.
    pub fn find(oldest: u32) -> Option<Self> {
        let on_path = |name: &str| on_path().into_iter().map(|folder| folder.join(name)).find(|path| path.is_file());
        let (program, npm) = on_path("node").zip(on_path("npm"))?;
        let version = version_line(Command::new(&program))?.trim().trim_start_matches('v').to_owned();
        (major(&version) >= oldest).then_some(Self { program, npm, version })
    }
}

fn major(version: &str) -> u32 {
    version.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn on_path() -> Vec<PathBuf> {
    env::var_os("PATH")
        .map(|path| env::split_paths(&path).filter(|folder| folder.is_absolute()).collect())
        .unwrap_or_default()
}

/// The folders a pattern with at most one `*` stands for, highest version first.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else { return vec![PathBuf::from(pattern)] };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("/", before));
    let mut versions: Vec<(u32, String)> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter_map(|name| Some((major(name.strip_prefix(prefix)?), name)))
        .collect();
    versions.sort();
    versions.into_iter().rev().map(|(_, name)| PathBuf::from(format!("{parent}/{name}{after}"))).collect()
}

fn version_line(mut command: Command) -> Option<String> {
    command.arg("--version");
    command::capture(command, "", Duration::from_secs(10)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_servers_and_packages_say() {
        for (version, expected) in
            [("15.18", 15), ("17beta1", 17), ("7.0.15", 7), ("15+248+deb12u1", 15), ("", 0), ("x", 0)]
        {
            assert_eq!(major(version), expected, "{version}");
        }
    }

    #[test]
    fn the_newest_version_comes_first() {
        let scratch = crate::scratch::Scratch::new("find").unwrap();
        for version in ["9", "15", "16"] {
            fs::create_dir_all(scratch.path().join(version).join("bin")).unwrap();
        }
        let found = expand(&format!("{}/*/bin", scratch.path().display()));
        let versions: Vec<_> =
            found.iter().map(|path| path.parent().unwrap().file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(versions, ["16", "15", "9"]);
    }
}
