use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::find::PostgresBinaries;
use super::owner::Owner;
use super::ports;
use super::server::{self, Server};
use crate::sys::{self, Signal};
use crate::wait;

mod cluster;
mod processes;

use cluster::Cluster;

/// Replaying the log after a crash under load takes its time.
const START_LIMIT: Duration = Duration::from_secs(180);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A private PostgreSQL with a role `millwork` (may create databases and roles, is no superuser) that owns a database
/// `millwork`. Stopped on drop.
#[derive(Debug)]
pub struct Postgres {
    cluster: Cluster,
    port: u16,
    settings: Vec<(String, String)>,
    server: Option<Server>,
}

impl Postgres {
    /// Starts a server that keeps its data in `home`, new or from an earlier run.
    ///
    /// When the caller is root it runs as an ordinary user, and where that one cannot enter `home`, the data is in
    /// /var/tmp instead; see [`data_dir`](Self::data_dir). Installs nothing: `cargo dev up` and `cargo dev test` do that
    /// before.
    pub fn start(home: &Path) -> Result<Self> {
        Self::start_with(home, &[])
    }

    /// The same with lines of postgresql.conf of one's own: `[("max_connections", "20")]`.
    pub fn start_with(home: &Path, settings: &[(&str, &str)]) -> Result<Self> {
        let binaries = PostgresBinaries::find()?
            .context("no PostgreSQL 15 or newer found; run the tests with `cargo dev test`, which installs it")?;
        let cluster = Cluster::open_or_create(binaries, Owner::of_postgres()?, home)?;
        let port = ports::noted_or_free(&cluster.home.join("port"))?;
        server::begin_log(&cluster.log())?;
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut postgres = Self { cluster, port, settings, server: None };
        postgres.restart()?;
        Ok(postgres)
    }

    /// Starts it again on the same port and data, after stopping it cleanly if it runs.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.cluster.end_leftover()?;
        self.cluster.configure(self.port, &self.settings)?;
        // Fast shutdown if this process dies: a crash would cost the next start a recovery.
        let mut server = Server::start(self.cluster.server_command(), &self.cluster.log(), Signal::Interrupt)?;
        let started = wait::until("the start of PostgreSQL", START_LIMIT, || match server.exited() {
            Some(status) => bail!("it ended with {status}"),
            None => Ok(self.cluster.is_ready(server.pid()).then_some(())),
        });
        if let Err(error) = started {
            let message =
                format!("PostgreSQL on port {} in {}:\n{}", self.port, self.data_dir().display(), server.last_lines());
            server.end(Signal::Quit, STOP_LIMIT);
            return Err(error.context(message));
        }
        self.server = Some(server);
        Ok(())
    }

    /// Ends it cleanly: open transactions are rolled back, clients are disconnected. Does nothing when it is down.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        if server.end(Signal::Interrupt, STOP_LIMIT) || server.end(Signal::Quit, STOP_LIMIT) {
            return Ok(());
        }
        kill_all(&mut server)
    }

    /// A crash: SIGKILL to the server and each of its processes. The next start replays the log.
    pub fn kill9(&mut self) -> Result<()> {
        self.server.take().map_or(Ok(()), |mut server| kill_all(&mut server))
    }

    /// The power fails: everything stops at one instant, and the next start finds the data as it was then.
    pub fn power_cut(&mut self) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        server.send(Signal::Stop)?;
        for child in processes::children_of(server.pid()) {
            sys::send(child, Signal::Stop).with_context(|| format!("cannot stop PostgreSQL's process {child}"))?;
        }
        let copied = self.cluster.copy_data();
        kill_all(&mut server)?;
        copied.and_then(|copy| self.cluster.replace_data(&copy))
    }

    /// Whether it is down, by itself or by a call.
    pub fn has_ended(&mut self) -> bool {
        self.server.as_mut().is_none_or(|server| server.exited().is_some())
    }

    /// `postgres://millwork:…@127.0.0.1:port/millwork`, the same across restarts.
    pub fn url(&self) -> String {
        self.url_of("millwork", "millwork")
    }

    /// The same for another of the role's databases.
    pub fn url_to(&self, database: &str) -> String {
        self.url_of("millwork", database)
    }

    /// What the server writes down.
    pub fn log(&self) -> PathBuf {
        self.cluster.log()
    }

    /// The same server as its superuser, for looking into it; the product itself must do without.
    pub fn superuser_url(&self) -> String {
        self.url_of("postgres", "postgres")
    }

    fn url_of(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}:{}@127.0.0.1:{}/{database}", self.cluster.password, self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Of the postmaster; `None` when it is down.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Server::pid)
    }

    pub fn data_dir(&self) -> &Path {
        &self.cluster.data
    }

    pub fn version(&self) -> &str {
        &self.cluster.binaries.version
    }

    /// The user it runs as, where that is not the caller.
    pub fn runs_as(&self) -> Option<&str> {
        (self.cluster.owner != Owner::Caller).then(|| self.cluster.owner.name())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// The postmaster is held still first, so that it neither starts further children nor tidies up after those that die.
fn kill_all(server: &mut Server) -> Result<()> {
    let postmaster = server.pid();
    server.send(Signal::Stop)?;
    let children = processes::children_of(postmaster);
    let ended = server.end(Signal::Kill, STOP_LIMIT);
    for child in &children {
        sys::send(*child, Signal::Kill).with_context(|| format!("cannot kill PostgreSQL's process {child}"))?;
    }
    // The next start is refused while any of them still holds the shared memory.
    let gone = wait::at_most(STOP_LIMIT, || children.iter().all(|child| !processes::runs(*child)).then_some(()));
    if !ended || gone.is_none() {
        bail!("PostgreSQL (process {postmaster}) does not end by SIGKILL");
    }
    Ok(())
}
