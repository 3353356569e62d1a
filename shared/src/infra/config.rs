//! Flags and environment.
//!
//! Every part of the system declares its flags as text and reads them with `Faults`, so that a process that cannot
//! start names everything that is wrong at once.

use std::fmt::Display;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;
use sqlx::postgres::PgConnectOptions;
use url::Url;

use super::crypto::{KeyRing, Secret};
use super::db::Db;
use super::redis::{self, Redis};

/// Collects what is wrong with the configuration.
#[derive(Debug, Default)]
pub struct Faults(Vec<String>);

impl Faults {
    /// Parses a variable that may be absent.
    pub fn optional<T, E: Display>(
        &mut self,
        name: &str,
        text: &Option<String>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = text.as_deref().map(str::trim).filter(|t| !t.is_empty())?;
        parse(text).map_err(|e| self.0.push(format!("{name}: {e}"))).ok()
    }

    /// Parses a variable that must be there.
    pub fn required<T, E: Display>(
        &mut self,
        name: &str,
        text: &Option<String>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        if text.as_deref().is_none_or(|t| t.trim().is_empty()) {
            self.0.push(format!("{name}: missing"));
        }
        self.optional(name, text, parse)
    }

    /// Notes a fault found by other means.
    pub fn push(&mut self, name: &str, fault: impl Display) {
        self.0.push(format!("{name}: {fault}"));
    }

    /// # Errors
    /// One line a fault, if there is any.
    pub fn finish(self) -> anyhow::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        anyhow::bail!("the configuration is not usable:\n  {}\nsee --help or .env.example", self.0.join("\n  "))
    }
}

/// Parses with the type's own `FromStr`.
pub fn parse<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|e| format!("`{text}`: {e}"))
}

/// What a message may show of a text that was meant as a URL: nothing before its last `@`, which may be a password.
pub fn without_password(text: &str) -> String {
    text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, rest)| format!("…@{rest}"))
}

/// Reads `.env` of the working folder into the environment, in debug builds alone. Call it before any thread starts.
pub fn load_dotenv() {
    if cfg!(debug_assertions) {
        let _ = dotenvy::dotenv();
    }
}

/// What every process needs to reach its stores.
#[derive(Debug, Clone, Args)]
pub struct StoreArgs {
    /// PostgreSQL 15 or newer: postgres://user:password@host:port/database
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Redis 7 or newer: redis://… or rediss://…; a cluster: redis+cluster://host:port,host:port,… or
    /// rediss+cluster://…
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    redis_url: Option<String>,
}

/// PostgreSQL and Redis, connected when first used.
#[derive(Clone)]
pub struct Stores {
    pub db: Db,
    pub redis: Redis,
    /// Opens further connections: blocking pops.
    pub redis_client: redis::Client,
}

impl StoreArgs {
    /// Checks the addresses and makes the handles; nothing is connected yet. `connections` bounds the pool.
    pub fn open(&self, connections: u32, faults: &mut Faults) -> Option<Stores> {
        let options = self.database_options(faults);
        let client = faults.required("REDIS_URL", &self.redis_url, redis::Client::open);
        let (options, redis_client) = (options?, client?);
        let redis = redis::connect_lazy(&redis_client).map_err(|e| faults.push("REDIS_URL", e)).ok()?;
        Some(Stores { db: Db::connect_lazy(options, connections), redis, redis_client })
    }
}

impl StoreArgs {
    /// The database alone, for commands that need no Redis.
    ///
    /// # Errors
    /// Says what is wrong with the address.
    pub fn open_database(&self, connections: u32) -> anyhow::Result<Db> {
        let mut faults = Faults::default();
        let options = self.database_options(&mut faults);
        faults.finish()?;
        options.map(|o| Db::connect_lazy(o, connections)).ok_or_else(|| anyhow::anyhow!("DATABASE_URL: missing"))
    }

    fn database_options(&self, faults: &mut Faults) -> Option<PgConnectOptions> {
        faults.required("DATABASE_URL", &self.database_url, |t| {
            t.parse::<PgConnectOptions>().map_err(|e| format!("not a PostgreSQL URL: {e}"))
        })
    }
}

#[derive(Debug, Clone, Args)]
pub struct KeyRingArgs {
    /// Key ring for secrets at rest: id:base64(32 bytes), comma separated; the first one seals
    #[arg(long, env = "MASTER_KEYS", hide_env_values = true)]
    master_keys: Option<String>,
}

impl KeyRingArgs {
    pub fn read(&self, faults: &mut Faults) -> Option<Arc<KeyRing>> {
        faults.required("MASTER_KEYS", &self.master_keys, KeyRing::parse).map(Arc::new)
    }
}

#[derive(Debug, Clone, Args)]
pub struct PublicUrlArgs {
    /// What links in mails and Location headers start with [default: http:// and API_ADDR]
    #[arg(long, env = "PUBLIC_URL")]
    public_url: Option<String>,
}

/// Where clients and people reach the API from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(String);

impl PublicUrlArgs {
    /// `api_addr` is the value of API_ADDR, if it has one.
    pub fn read(&self, api_addr: &Option<String>, faults: &mut Faults) -> Option<PublicUrl> {
        let given = |text: &Option<String>| text.clone().filter(|t| !t.trim().is_empty());
        let usual = given(api_addr).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
        let text = given(&self.public_url).or_else(|| Some(format!("http://{}", usual.trim())));
        faults.required("PUBLIC_URL", &text, PublicUrl::from_str)
    }
}

impl PublicUrl {
    /// The address of `path`, which starts with a slash.
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|e| format!("`{}`: {e}", without_password(text)))?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !plain {
            return Err(format!(
                "`{}` is not a URL such as https://millwork.example.com, without user, query and fragment",
                without_password(text)
            ));
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }
}

/// Reads a listen address, with a default.
pub fn listen_addr(name: &str, text: &Option<String>, default: &str, faults: &mut Faults) -> Option<SocketAddr> {
    let text = text.clone().or_else(|| Some(default.to_owned()));
    faults.required(name, &text, |t| {
        t.parse::<SocketAddr>().map_err(|_| format!("`{t}` is not an address such as {default}"))
    })
}

/// A value from the environment that must not be printed.
pub fn secret(text: &Option<String>) -> Option<Secret<String>> {
    text.clone().filter(|t| !t.is_empty()).map(Secret::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_start_with_the_public_url_or_the_address_of_the_api() {
        let join = |public_url: Option<&str>, api_addr: Option<&str>| {
            let args = PublicUrlArgs { public_url: public_url.map(str::to_owned) };
            args.read(&api_addr.map(str::to_owned), &mut Faults::default()).map(|url| url.join("/x"))
        };
        assert_eq!(join(None, None).unwrap(), "http://127.0.0.1:8080/x");
        assert_eq!(join(Some(""), Some("127.0.0.1:9000")).unwrap(), "http://127.0.0.1:9000/x");
        assert_eq!(join(Some("https://m.example.com/"), Some("127.0.0.1:9000")).unwrap(), "https://m.example.com/x");
        assert_eq!(join(Some("https://example.com/m/"), None).unwrap(), "https://example.com/m/x");
        for bad in ["m.example.com", "ftp://m.example.com", "https://a:b@m.example.com", "https://m.example.com?x"] {
            assert_eq!(join(Some(bad), None), None, "{bad}");
        }
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let mut faults = Faults::default();
        let args = StoreArgs { database_url: None, redis_url: Some("http://x".into()) };
        assert!(args.open(1, &mut faults).is_none());
        listen_addr("API_ADDR", &Some("8080".into()), "127.0.0.1:8080", &mut faults);
        KeyRingArgs { master_keys: Some("k".into()) }.read(&mut faults);
        let text = faults.finish().unwrap_err().to_string();
        for name in ["DATABASE_URL: missing", "REDIS_URL: not a Redis URL", "API_ADDR: `8080`", "MASTER_KEYS: entry 1"]
        {
            assert!(text.contains(name), "{text}");
        }
    }
}
