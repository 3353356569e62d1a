//! Installs what is missing, by the system's package manager.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::find::{
    self, FAKETIME_LIBRARY, NODE_OLDEST_OF_TESTS, Node, PG_BIN, PG_OLDEST, PostgresBinaries, REDIS_OLDEST,
    REDIS_SERVER, RedisServer, WRK,
};
use crate::{command, interrupt, sys, terminal};

const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Makes sure that both servers' binaries are there. Says what it is about to run before it changes the system, and
/// neither starts, stops nor configures a server of the system.
pub fn ensure_installed() -> Result<(PostgresBinaries, RedisServer)> {
    let (postgres, redis) = (PostgresBinaries::find()?, RedisServer::find()?);
    if let (Some(postgres), Some(redis)) = (postgres.clone(), redis.clone()) {
        return Ok((postgres, redis));
    }
    let missing: Vec<&Need> = [(postgres.is_none(), &POSTGRES), (redis.is_none(), &REDIS)]
        .into_iter()
        .filter(|(absent, _)| *absent)
        .map(|(_, need)| need)
        .collect();
    install(&missing)?;
    match (PostgresBinaries::find()?, RedisServer::find()?) {
        (Some(postgres), Some(redis)) => Ok((postgres, redis)),
        _ => bail!("the packages are installed, and yet {} cannot be found. {}", names(&missing), advice(&missing)),
    }
}

/// Makes sure that the load generator is there, like [`ensure_installed`], and answers where.
pub fn ensure_wrk() -> Result<PathBuf> {
    if let Some(wrk) = find::wrk()? {
        return Ok(wrk);
    }
    install(&[&LOAD_GENERATOR])?;
    find::wrk()?.with_context(|| format!("wrk is installed, and yet cannot be found. {}", advice(&[&LOAD_GENERATOR])))
}

/// Makes sure that Node.js and its package manager are there, like [`ensure_installed`]: the tests' identity provider is
/// written for it.
pub fn ensure_node() -> Result<Node> {
    if let Some(node) = Node::find(NODE_OLDEST_OF_TESTS) {
        return Ok(node);
    }
    let missing = [&NODE, &NPM];
    install(&missing)?;
    Node::find(NODE_OLDEST_OF_TESTS)
        .with_context(|| format!("Node.js is installed, and yet cannot be found. {}", advice(&missing)))
}

/// The library that gives a process a clock of its own, installed if need be; an error where that cannot be.
pub fn faketime() -> Result<PathBuf> {
    if let Some(library) = find::faketime() {
        return Ok(library);
    }
    ensure!(has_apt(), "libfaketime is not installed, and this system has no apt-get");
    terminal::step("libfaketime not found; installing");
    apt_install(&[&FAKETIME])?;
    find::faketime().context("libfaketime is installed, and yet cannot be found")
}

fn install(missing: &[&Need]) -> Result<()> {
    let names = names(missing);
    ensure!(has_apt(), "{names} not found, and this system has no apt-get. {}", advice(missing));
    terminal::step(format!("{names} not found; installing"));
    apt_install(missing)
}

fn names(needs: &[&Need]) -> String {
    needs.iter().map(|need| format!("{} {} or newer", need.name, need.oldest)).collect::<Vec<_>>().join(" and ")
}

struct Need {
    name: &'static str,
    oldest: u32,
    /// On Debian and Ubuntu.
    package: &'static str,
    override_variable: &'static str,
    /// With the package managers of [`MANAGERS`].
    elsewhere: [&'static str; 5],
}

const POSTGRES: Need = Need {
    name: "PostgreSQL",
    oldest: PG_OLDEST,
    package: "postgresql",
    override_variable: PG_BIN,
    elsewhere: ["postgresql@17", "postgresql-server", "postgresql", "postgresql17", "postgresql-server"],
};
/// The tools' package holds the server's program; the server's own would also start one for the whole system.
const REDIS: Need = Need {
    name: "Redis",
    oldest: REDIS_OLDEST,
    package: "redis-tools",
    override_variable: REDIS_SERVER,
    elsewhere: ["redis", "valkey", "valkey", "redis", "redis7"],
};
const LOAD_GENERATOR: Need =
    Need { name: "wrk", oldest: 4, package: "wrk", override_variable: WRK, elsewhere: ["wrk"; 5] };

const NODE: Need = Need {
    name: "Node.js",
    oldest: NODE_OLDEST_OF_TESTS,
    package: "nodejs",
    override_variable: "PATH",
    elsewhere: ["node", "nodejs", "nodejs", "nodejs", "nodejs20"],
};
const NPM: Need = Need {
    name: "npm",
    oldest: 7,
    package: "npm",
    override_variable: "PATH",
    elsewhere: ["node", "npm", "npm", "npm", "npm20"],
};

const FAKETIME: Need = Need {
    name: "libfaketime",
    oldest: 0,
    package: "libfaketime",
    override_variable: FAKETIME_LIBRARY,
    elsewhere: ["libfaketime"; 5],
};

/// What installs packages where there is no apt-get.
const MANAGERS: [(&str, &str); 5] = [
    ("brew", "brew install"),
    ("dnf", "sudo dnf install"),
    ("pacman", "sudo pacman -S"),
    ("apk", "apk add"),
    ("zypper", "sudo zypper install"),
];

fn apt_install(missing: &[&Need]) -> Result<()> {
    let packages = missing.iter().map(|need| need.package).collect::<Vec<_>>();
    let with_postgres = packages.contains(&POSTGRES.package);
    let update = apt(&["update"])?;
    let install = apt(&[&["install", "--yes", "--no-install-recommends"], packages.as_slice()].concat())?;
    terminal::note(format!("will run: {}", shown(&update)));
    terminal::note(format!("will run: {}", shown(&install)));
    if with_postgres {
        terminal::note(format!("meanwhile {NO_CLUSTER} keeps the package from creating a server for the whole system"));
    }

    if let Err(error) = command::run("fetching the package lists", update, LIMIT) {
        interrupt::check()?;
        terminal::note(format!("{error:#}; going on with the lists that are here"));
    }
    for need in missing {
        let offered = offered_version(need.package)?;
        ensure!(
            offered.as_deref().is_some_and(|version| major(version) >= need.oldest),
            "this system's packages offer {} {}, and {} is needed. {}",
            need.name,
            offered.as_deref().unwrap_or("not at all"),
            need.oldest,
            advice(&[need])
        );
    }
    let _guard = with_postgres.then(NoCluster::put).transpose()?;
    command::run("installing", install, LIMIT).with_context(|| advice(missing))
}

fn apt(arguments: &[&str]) -> Result<Command> {
    as_root(&[&["apt-get", "-o", "DPkg::Lock::Timeout=120"], arguments].concat())
}

/// With sudo unless this is root already. Where nobody can type a password, sudo must not ask for one.
fn as_root(words: &[&str]) -> Result<Command> {
    let settings = ["env", "DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_SUSPEND=1"];
    let mut command = if sys::user_id() == 0 {
        Command::new("env")
    } else {
        ensure!(on_path("sudo"), "installing needs root, and sudo is not here; as root run: {}", words.join(" "));
        let mut sudo = Command::new("sudo");
        if !io::stdin().is_terminal() {
            sudo.arg("-n");
        }
        sudo.arg("env");
        sudo
    };
    command.args(&settings[1..]).args(words);
    Ok(command)
}

fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// What the package manager would install: `15+248+deb12u1`.
fn offered_version(package: &str) -> Result<Option<String>> {
    let mut policy = Command::new("apt-cache");
    policy.args(["policy", package]).env("LC_ALL", "C");
    let says = command::capture(policy, "", Duration::from_secs(60))?;
    Ok(candidate(&says))
}

fn candidate(policy: &str) -> Option<String> {
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:"))?.trim();
    let without_epoch = version.split_once(':').map_or(version, |(_, rest)| rest);
    (version != "(none)").then(|| without_epoch.to_owned())
}

fn major(version: &str) -> u32 {
    version.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn advice(missing: &[&Need]) -> String {
    let wanted: Vec<_> = missing.iter().map(|need| format!("{} {}+", need.name, need.oldest)).collect();
    let overrides: Vec<_> = missing.iter().map(|need| need.override_variable).collect();
    let manager = MANAGERS.iter().enumerate().find(|(_, (manager, _))| on_path(manager));
    let hint = manager.map(|(index, (_, install))| {
        let packages: Vec<_> = missing.iter().map(|need| need.elsewhere[index]).collect();
        format!(" (for example: {install} {})", packages.join(" "))
    });
    let hint = hint.unwrap_or_default();
    format!("Install {}{hint}, or say where it is with {}", wanted.join(" and "), overrides.join(" and "))
}

fn has_apt() -> bool {
    on_path("apt-get") && on_path("dpkg")
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

const NO_CLUSTER: &str = "/etc/postgresql-common/createcluster.d/millwork-dev.conf";

/// While it lives, Debian's PostgreSQL package creates no database cluster when installed, and so has none to start. It
/// is a file in the folder that Debian reads such settings from; the administrator's own settings there stay.
struct NoCluster;

impl NoCluster {
    fn put() -> Result<Self> {
        let setting = "create_main_cluster = off # while `cargo dev` installs PostgreSQL; may be deleted";
        let script = format!("mkdir -p \"$(dirname {NO_CLUSTER})\" && echo '{setting}' > {NO_CLUSTER}");
        command::run("preparing", as_root(&["sh", "-c", &script])?, Duration::from_secs(60))?;
        Ok(Self)
    }
}

impl Drop for NoCluster {
    /// Not one of the waits that Ctrl-C cuts short: the file must go in any case.
    fn drop(&mut self) {
        let removed = as_root(&["rm", "-f", NO_CLUSTER]).and_then(|mut rm| Ok(rm.status()?));
        if !removed.is_ok_and(|status| status.success()) {
            terminal::note(format!("could not remove {NO_CLUSTER}; delete it"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offered_version_is_read_from_the_package_managers_answer() {
        let answer = "redis-tools:\n  Installed: (none)\n  Candidate: 5:7.0.15-1~deb12u10\n  Version table:\n";
        assert_eq!(candidate(answer).as_deref(), Some("7.0.15-1~deb12u10"));
        assert_eq!(candidate("x:\n  Candidate: (none)\n"), None);
        assert_eq!(candidate(""), None);
        assert_eq!(major("15+248+deb12u1"), 15);
    }
}
