//! The data folder: making it, its settings, and what an earlier run left in it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::services::find::{PG_BIN, PostgresBinaries};
use crate::services::owner::Owner;
use crate::sys::{self, Signal};
use crate::{command, secret, wait};

use super::processes;

/// Sane for tests and for measuring: durable, and with room for many clients.
///
/// No Unix socket: TCP serves every client, and a socket's path has a limit of 107 bytes that a deep folder exceeds. DROP
/// DATABASE waits for every client that has not said its password yet, such as one that a test left behind: not for long.
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
shared_buffers = '256MB'
fsync = on
synchronous_commit = on
full_page_writes = on
min_wal_size = '256MB'
max_wal_size = '2GB'
authentication_timeout = '5s'
autovacuum_naptime = '5s'
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %u@%d '
";

const CREATE_LIMIT: Duration = Duration::from_secs(120);

/// An initialised data folder and what it takes to run a server on it.
#[derive(Debug)]
pub struct Cluster {
    pub binaries: PostgresBinaries,
    pub owner: Owner,
    /// Private folder around the data: password, port, log.
    pub home: PathBuf,
    pub data: PathBuf,
    /// Of both roles, `millwork` and the superuser `postgres`.
    pub password: String,
}

impl Cluster {
    pub fn open_or_create(binaries: PostgresBinaries, owner: Owner, home: &Path) -> Result<Self> {
        let home = owner.private_folder(home)?;
        let password_file = home.join("password");
        let password = secret::kept_password(&password_file)?;
        owner.own(&password_file)?;
        let cluster = Self { binaries, owner, data: home.join("data"), home, password };
        if cluster.data.join("PG_VERSION").exists() {
            cluster.check_version()?;
        } else {
            cluster.create(&password_file)?;
        }
        Ok(cluster)
    }

    fn check_version(&self) -> Result<()> {
        let made_by = fs::read_to_string(self.data.join("PG_VERSION"))?;
        let (made_by, found) = (made_by.trim(), self.binaries.major().to_string());
        ensure!(
            made_by == found,
            "{} was made by PostgreSQL {made_by}, and the binaries in {} are version {found}: \
             set {PG_BIN} to those of version {made_by}, or delete the folder to begin anew",
            self.data.display(),
            self.binaries.folder.display()
        );
        Ok(())
    }

    /// Made beside its place and moved there whole, so that a stop halfway leaves nothing that looks finished.
    fn create(&self, password_file: &Path) -> Result<()> {
        let unfinished = self.home.join("data.unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).with_context(|| format!("cannot remove {}", unfinished.display()))?;
        }
        // Sorting as most managed servers do it; a system without this locale gets plain bytes.
        let made = self
            .initdb(&unfinished, password_file, "C.UTF-8")
            .or_else(|_| self.initdb(&unfinished, password_file, "C"));
        made.context("cannot create PostgreSQL's data folder")?;
        let mut main_config = fs::OpenOptions::new().append(true).open(unfinished.join("postgresql.conf"))?;
        writeln!(main_config, "\ninclude 'millwork.conf'")?;
        let settings = unfinished.join("millwork.conf");
        fs::write(&settings, SETTINGS)?;
        self.owner.own(&settings)?;
        self.create_role_and_database(&unfinished)?;
        fs::rename(&unfinished, &self.data).with_context(|| format!("cannot create {}", self.data.display()))
    }

    fn initdb(&self, data: &Path, password_file: &Path, locale: &str) -> Result<()> {
        let mut initdb = self.command("initdb");
        initdb.arg("--pgdata").arg(data).arg("--pwfile").arg(password_file);
        initdb
            .args(["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8"])
            .arg(format!("--locale={locale}"));
        command::capture(initdb, "", CREATE_LIMIT).map(drop)
    }

    /// By PostgreSQL's single-user mode, which needs neither a client program nor a running server.
    fn create_role_and_database(&self, data: &Path) -> Result<()> {
        let statements = format!(
            "create role millwork login createdb createrole password '{}';\ncreate database millwork owner millwork;\n",
            self.password
        );
        let mut single = self.command("postgres");
        single.arg("--single").arg("-D").arg(data).args(["-c", "exit_on_error=on", "postgres"]);
        command::capture(single, &statements, CREATE_LIMIT).context("cannot create the role and database millwork")?;
        Ok(())
    }

    /// Writes the settings anew, so that an older data folder gets today's.
    pub fn configure(&self, port: u16, settings: &[(String, String)]) -> Result<()> {
        let mut text =
            format!("# Written at every start. Change things with `alter system`.\n{SETTINGS}port = {port}\n");
        for (name, value) in settings {
            text += &format!("{name} = '{}'\n", value.replace('\'', "''"));
        }
        let path = self.data.join("millwork.conf");
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        self.owner.own(&path)
    }

    /// Copies the data folder as it is now and answers where the copy is.
    pub fn copy_data(&self) -> Result<PathBuf> {
        let copy = self.home.join("data.copy");
        let mut cp = Command::new("cp");
        cp.args(["-a", "--"]).arg(&self.data).arg(&copy);
        command::capture(cp, "", CREATE_LIMIT).context("cannot copy PostgreSQL's data folder")?;
        Ok(copy)
    }

    /// Puts a copy in the place of the data folder.
    pub fn replace_data(&self, copy: &Path) -> Result<()> {
        fs::remove_dir_all(&self.data).with_context(|| format!("cannot remove {}", self.data.display()))?;
        fs::rename(copy, &self.data).with_context(|| format!("cannot move {}", copy.display()))
    }

    pub fn log(&self) -> PathBuf {
        self.home.join("postgres.log")
    }

    pub fn server_command(&self) -> Command {
        let mut command = self.command("postgres");
        command.arg("-D").arg(&self.data);
        command
    }

    /// A server that works on this folder already: its own tool died a moment ago and it is on its way out, or it runs on
    /// where children do not die with their parent. Either way it ends here.
    pub fn end_leftover(&self) -> Result<()> {
        let Some(pid) = self.pid_file().and_then(|lines| lines.first()?.trim().parse().ok()) else { return Ok(()) };
        if !processes::runs(pid) {
            return Ok(()); // PostgreSQL clears that up itself, and looks for survivors of the crash first
        }
        if !self.is_ours(pid) {
            // The id is another process's by now, which PostgreSQL would take for its own predecessor.
            return fs::remove_file(self.data.join("postmaster.pid")).context("cannot remove a stale postmaster.pid");
        }
        sys::send(pid, Signal::Interrupt)?;
        if wait::at_most(Duration::from_secs(30), || (!processes::runs(pid)).then_some(())).is_none() {
            bail!("another PostgreSQL (process {pid}) runs on {} and does not stop", self.data.display());
        }
        Ok(())
    }

    /// Whether the process works in this data folder, as a postmaster does.
    fn is_ours(&self, pid: u32) -> bool {
        if !cfg!(target_os = "linux") {
            return true;
        }
        fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|folder| folder == self.data)
    }

    /// PostgreSQL notes its state in the pid file; this is what pg_ctl reads too.
    pub fn is_ready(&self, pid: u32) -> bool {
        self.pid_file().is_some_and(|lines| {
            lines.first().is_some_and(|line| line.trim() == pid.to_string())
                && lines.get(7).is_some_and(|state| state.trim() == "ready")
        })
    }

    fn pid_file(&self) -> Option<Vec<String>> {
        let text = fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        Some(text.lines().map(str::to_owned).collect())
    }

    /// One of PostgreSQL's programs as its user. The environment of libpq is not for it.
    fn command(&self, name: &str) -> Command {
        let mut command = self.binaries.command(name);
        command.current_dir(&self.home).env("LC_ALL", "C");
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("PG") {
                command.env_remove(variable);
            }
        }
        self.owner.run(&mut command);
        command
    }
}
