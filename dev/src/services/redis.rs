use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::find::RedisServer;
use super::ports;
use super::server::{self, Server};
use crate::secret;
use crate::sys::Signal;
use crate::wait;

/// Loading a large append-only file takes its time.
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// A private Redis with an append-only file and no eviction, behind a password (another user of the machine could
/// otherwise have it write files). Stopped on drop.
#[derive(Debug)]
pub struct Redis {
    binary: RedisServer,
    home: PathBuf,
    port: u16,
    password: String,
    /// Where the other nodes of its cluster reach it, if it is one of several.
    bus: Option<u16>,
    server: Option<Server>,
}

impl Redis {
    /// Starts a server that keeps its data in `home`, new or from an earlier run.
    ///
    /// Installs nothing: `cargo dev up` and `cargo dev test` do that before.
    pub fn start(home: &Path) -> Result<Self> {
        fs::create_dir_all(home).with_context(|| format!("cannot create {}", home.display()))?;
        Self::start_as(home, secret::kept_password(&home.join("password"))?, None)
    }

    /// Starts one that is to be a node of a cluster, all of which have the same password.
    pub(super) fn start_node(home: &Path, password: &str) -> Result<Self> {
        fs::create_dir_all(home).with_context(|| format!("cannot create {}", home.display()))?;
        Self::start_as(home, password.to_owned(), Some(ports::noted_or_free(&home.join("bus-port"))?))
    }

    fn start_as(home: &Path, password: String, bus: Option<u16>) -> Result<Self> {
        let binary = RedisServer::find()?
            .context("no redis-server 7 or newer found; run the tests with `cargo dev test`, which installs it")?;
        let home = home.canonicalize()?;
        let port = ports::noted_or_free(&home.join("port"))?;
        server::begin_log(&home.join("redis.log"))?;
        let mut redis = Self { binary, home, port, password, bus, server: None };
        redis.restart()?;
        Ok(redis)
    }

    /// Starts it again on the same port and data, after stopping it cleanly if it runs.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        let config = self.home.join("redis.conf");
        secret::write_private(&config, &self.config())?;
        let mut command = self.binary.command();
        command.arg(&config).current_dir(&self.home);
        let mut server = Server::start(command, &self.home.join("redis.log"), Signal::Kill)?;
        wait::until("the start of Redis", START_LIMIT, || match server.exited() {
            Some(status) => {
                bail!("Redis ended with {status} at its start on port {}:\n{}", self.port, server.last_lines())
            }
            None => Ok(self.answers().then_some(())),
        })?;
        self.server = Some(server);
        Ok(())
    }

    /// Ends it cleanly; what was written is on disk. Does nothing when it is down.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        if !server.end(Signal::Terminate, STOP_LIMIT) && !server.end(Signal::Kill, STOP_LIMIT) {
            bail!("Redis (process {}) does not end, not even by SIGKILL", server.pid());
        }
        Ok(())
    }

    /// A crash: SIGKILL. Up to a second of writes may be lost.
    pub fn kill9(&mut self) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        if !server.end(Signal::Kill, STOP_LIMIT) {
            bail!("Redis (process {}) does not end by SIGKILL", server.pid());
        }
        Ok(())
    }

    /// Deletes the data of a server that is down. A node stays one of its cluster, with the slots it had.
    pub fn lose_data(&mut self) -> Result<()> {
        ensure!(self.server.is_none(), "Redis is running");
        let files = self.home.join("appendonlydir");
        if files.exists() {
            fs::remove_dir_all(&files).with_context(|| format!("cannot delete {}", files.display()))?;
        }
        Ok(())
    }

    /// Holds the process still (SIGSTOP): connections stay open and nothing answers.
    pub fn freeze(&mut self) -> Result<()> {
        self.server.as_mut().context("Redis is down")?.send(Signal::Stop)
    }

    /// Ends a [`freeze`](Self::freeze).
    pub fn thaw(&mut self) -> Result<()> {
        self.server.as_mut().context("Redis is down")?.send(Signal::Continue)
    }

    /// `redis://:password@127.0.0.1:port/`, the same across restarts.
    pub fn url(&self) -> String {
        format!("redis://:{}@127.0.0.1:{}/", self.password, self.port)
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }

    pub(super) fn bus(&self) -> Option<u16> {
        self.bus
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `None` when it is down.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Server::pid)
    }

    pub fn version(&self) -> &str {
        &self.binary.version
    }

    fn config(&self) -> String {
        let Self { port, password, home, .. } = self;
        let node = self.bus.map_or(String::new(), |bus| {
            // Its keys are missed while it is down, and those of the others are served.
            format!(
                "cluster-enabled yes\ncluster-config-file nodes.conf\ncluster-port {bus}\ncluster-node-timeout 2000\n\
                 cluster-require-full-coverage no\n"
            )
        });
        format!(
            "bind 127.0.0.1\nport {port}\nrequirepass {password}\ndir \"{}\"\ndaemonize no\n\
             save \"\"\nappendonly yes\nappendfsync everysec\nmaxmemory-policy noeviction\n{node}",
            home.display()
        )
    }

    fn answers(&self) -> bool {
        let limit = Duration::from_secs(1);
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, self.port).into(), limit)?;
            stream.set_read_timeout(Some(limit))?;
            stream.write_all(format!("AUTH {}\r\nPING\r\nQUIT\r\n", self.password).as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.contains("+PONG"))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}
