//! Flags and environment of `millwork-api`.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use millwork_shared::egress::{AllowedNets, EgressArgs};
use millwork_shared::files::settings::{FileArgs, FileSettings};
use millwork_shared::infra::clock::Clock;
use millwork_shared::infra::config::{self, Faults, KeyRingArgs, PublicUrlArgs, StoreArgs};
use millwork_shared::infra::crypto::KeyRing;
use millwork_shared::infra::ids::TenantId;
use millwork_shared::infra::storage::StorageArgs;
use millwork_shared::infra::telemetry::sentry::SentryArgs;
use millwork_shared::infra::telemetry::traces::TraceArgs;
use millwork_shared::infra::telemetry::{LogConfig, Telemetry};
use millwork_shared::jobs::dispatch::Dispatcher;

use crate::admin::command::AdminCommand;
use crate::auth::oauth::settings::OAuthSettings;
use crate::http::browsers::CorsOrigins;
use crate::http::proxies::TrustedProxies;
use crate::http::server::settings::{ServerArgs, ServerSettings};
use crate::limits::settings::{LimitSettings, parse_address_limit};
use crate::quotas::settings::QuotaSettings;
use crate::{App, Parts};

/// What this process calls itself.
const PROCESS: &str = "millwork-api";
/// Connections to PostgreSQL. Requests hold one for milliseconds.
const DB_CONNECTIONS: u32 = 20;

const OAUTH_HELP: &str = "\
Who people may sign in by is read from the environment alone, the name of each provider being part of the variables':
  [env: OAUTH_GITHUB_CLIENT_ID]      github.com
  [env: OAUTH_GITHUB_CLIENT_SECRET]
  [env: OAUTH_GITHUB_ISSUER]         a GitHub Enterprise Server instead
  [env: OAUTH_ACME_CLIENT_ID]        any OpenID Connect issuer, here as /auth/oauth/acme
  [env: OAUTH_ACME_CLIENT_SECRET]
  [env: OAUTH_ACME_ISSUER]           what it calls itself: https://login.acme.example";

/// The HTTP API of Millwork. Without a command it serves.
#[derive(Debug, Parser)]
#[command(name = "millwork-api", version, about, after_long_help = OAUTH_HELP)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub stores: StoreArgs,
    #[command(flatten)]
    pub serve: ServeArgs,
    #[command(flatten)]
    pub log: LogConfig,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring the database's schema up to date, and exit
    Migrate,
    /// Let people in who run the platform
    #[command(subcommand)]
    Admin(AdminCommand),
    /// Seal anew, under the first key of MASTER_KEYS, what older keys sealed
    Rekey {
        /// Only count it; fails if there is any
        #[arg(long)]
        check: bool,
    },
    /// Look after audit entries
    #[command(subcommand)]
    Audit(AuditCommand),
}

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Find entries that were changed, removed or inserted; fails if there are any
    Verify {
        /// Only this tenant's
        #[arg(long)]
        tenant: Option<TenantId>,
    },
}

#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    keys: KeyRingArgs,
    #[command(flatten)]
    egress: EgressArgs,
    #[command(flatten)]
    storage: StorageArgs,
    /// Listen address [default: 127.0.0.1:8080]
    #[arg(long, env = "API_ADDR")]
    api_addr: Option<String>,
    #[command(flatten)]
    public_url: PublicUrlArgs,
    /// Who may register: open, invite, closed [default: open]
    #[arg(long, env = "REGISTRATION")]
    registration: Option<String>,
    /// Addresses of front ends that sign-ins by another provider may return to, word for word, comma separated
    /// [default: none]
    #[arg(long, env = "OAUTH_RETURN_URLS")]
    oauth_return_urls: Option<String>,
    /// Requests a minute by plan, of a tenant, of one person in it, of one API key: starter=6000/600/1200,pro=…
    /// [default: so high that they bother nobody]
    #[arg(long, env = "RATE_LIMITS")]
    rate_limits: Option<String>,
    /// Requests a minute to /auth by one address [default: 6000]
    #[arg(long, env = "AUTH_RATE_LIMIT")]
    auth_rate_limit: Option<String>,
    /// Jobs and events a month and members, by plan: starter=100000/100000/5,pro=… [default: as good as none]
    #[arg(long, env = "QUOTAS")]
    quotas: Option<String>,
    /// Proxies before the API, whose X-Forwarded-For counts: 10.0.0.0/8,fd00::/8 [default: none]
    #[arg(long, env = "TRUSTED_PROXIES")]
    trusted_proxies: Option<String>,
    /// Origins whose pages may call the API from a browser, such as `https://app.example.com`, or * [default: none]
    #[arg(long, env = "CORS_ORIGINS")]
    cors_origins: Option<String>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    traces: TraceArgs,
    #[command(flatten)]
    sentry: SentryArgs,
    #[command(flatten)]
    server: ServerArgs,
}

/// What endpoints read of the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Without a slash at the end.
    pub public_url: String,
    pub registration: Registration,
    /// Private networks that webhooks and calls may reach all the same; the worker must be told too.
    pub nets: AllowedNets,
    /// Whose `X-Forwarded-For` counts.
    pub proxies: TrustedProxies,
    /// Whose pages may call the API from a browser.
    pub cors: CorsOrigins,
    /// How much callers may ask for.
    pub limits: LimitSettings,
    /// How much tenants may use.
    pub quotas: QuotaSettings,
    /// Who people may sign in by.
    pub oauth: OAuthSettings,
    /// What may be stored.
    pub files: FileSettings,
}

impl Settings {
    /// The second part of an API key: tells a key of production from others, by whether the public address is secure.
    pub fn key_environment(&self) -> &'static str {
        if self.is_secure() { "live" } else { "test" }
    }

    /// Whether clients reach the API by TLS.
    pub fn is_secure(&self) -> bool {
        self.public_url.starts_with("https://")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// Anyone may register and gets a tenant.
    Open,
    /// Only by invitation.
    Invite,
    Closed,
}

impl FromStr for Registration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "open" => Ok(Self::Open),
            "invite" => Ok(Self::Invite),
            "closed" => Ok(Self::Closed),
            other => Err(format!("`{other}` is none of open, invite, closed")),
        }
    }
}

/// A checked configuration.
pub struct Config {
    pub app: App,
    pub addr: SocketAddr,
    pub server: ServerSettings,
    pub telemetry: Telemetry,
}

impl Cli {
    /// Checks the configuration for serving. Nothing is connected yet.
    ///
    /// # Errors
    /// Names every fault at once.
    pub fn config(&self) -> anyhow::Result<Config> {
        let mut faults = Faults::default();
        let args = &self.serve;
        let stores = self.stores.open(DB_CONNECTIONS, &mut faults);
        let keys = args.keys.read(&mut faults);
        let addr = config::listen_addr("API_ADDR", &args.api_addr, "127.0.0.1:8080", &mut faults);
        let public_url = args.public_url.read(&args.api_addr, &mut faults);
        let registration = faults.optional("REGISTRATION", &args.registration, Registration::from_str);
        let nets = args.egress.read(&mut faults);
        let storage = args.storage.read(&mut faults);
        let limits = faults.optional("RATE_LIMITS", &args.rate_limits, LimitSettings::from_str);
        let address = faults.optional("AUTH_RATE_LIMIT", &args.auth_rate_limit, parse_address_limit);
        let quotas = faults.optional("QUOTAS", &args.quotas, QuotaSettings::from_str);
        let oauth = OAuthSettings::read(environment(), &args.oauth_return_urls, &mut faults);
        let proxies = faults.optional("TRUSTED_PROXIES", &args.trusted_proxies, TrustedProxies::from_str);
        let cors = faults.optional("CORS_ORIGINS", &args.cors_origins, CorsOrigins::from_str);
        let proxies = proxies.unwrap_or_default();
        let files = args.files.read(&mut faults);
        let server = args.server.read(&proxies, &mut faults);
        let traces = args.traces.read(PROCESS, &mut faults);
        let sentry = args.sentry.read(&mut faults);
        faults.finish()?;
        let (Some(stores), Some(keys), Some(addr), Some(public_url), Some(storage)) =
            (stores, keys, addr, public_url, storage)
        else {
            anyhow::bail!("a part of the configuration is missing");
        };
        let limits = limits.unwrap_or_default();
        let settings = Settings {
            public_url: public_url.join(""),
            registration: registration.unwrap_or(Registration::Open),
            nets,
            proxies,
            cors: cors.unwrap_or_default(),
            quotas: quotas.unwrap_or_default(),
            oauth,
            files,
            limits: LimitSettings { address: address.unwrap_or(limits.address), ..limits },
        };
        let app = App::new(Parts {
            db: stores.db,
            dispatcher: Dispatcher::new(stores.redis.clone()),
            redis: stores.redis,
            keys,
            storage,
            clock: Clock::default(),
            settings,
        });
        Ok(Config {
            app,
            addr,
            server,
            telemetry: Telemetry { process: PROCESS, log: self.log.clone(), traces, sentry },
        })
    }

    /// The database and the keys, for `audit` and `rekey`.
    ///
    /// # Errors
    /// Names every fault at once.
    pub fn database_and_keys(&self) -> anyhow::Result<(millwork_shared::infra::db::Db, Arc<KeyRing>)> {
        let mut faults = Faults::default();
        let keys = self.serve.keys.read(&mut faults);
        let db = self.stores.open_database(1);
        faults.finish()?;
        let keys = keys.ok_or_else(|| anyhow::anyhow!("MASTER_KEYS: missing"))?;
        Ok((db?, keys))
    }

    /// The database, and what the API is reached by, for `admin`.
    ///
    /// # Errors
    /// Names every fault at once.
    pub fn database_and_public_url(&self) -> anyhow::Result<(millwork_shared::infra::db::Db, String)> {
        let mut faults = Faults::default();
        let public_url = self.serve.public_url.read(&self.serve.api_addr, &mut faults);
        let db = self.stores.open_database(1);
        faults.finish()?;
        let public_url = public_url.ok_or_else(|| anyhow::anyhow!("PUBLIC_URL: missing"))?;
        Ok((db?, public_url.join("")))
    }

    /// The database alone, for `migrate`.
    ///
    /// # Errors
    /// Says what is wrong with its address.
    pub fn database(&self) -> anyhow::Result<millwork_shared::infra::db::Db> {
        self.stores.open_database(1)
    }
}

/// Variables whose names are not known beforehand; what is not text is none of ours.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_variable_is_named_at_once() {
        let cli = Cli::parse_from([
            "millwork-api",
            "--database-url",
            "x",
            "--redis-url",
            "x",
            "--master-keys",
            "x",
            "--api-addr",
            "x",
            "--public-url",
            "ftp://x",
            "--registration",
            "x",
            "--shutdown-grace-s",
            "x",
            "--egress-allow-cidrs",
            "x",
            "--otel-exporter-otlp-endpoint",
            "x",
            "--sentry-dsn",
            "x",
            "--rate-limits",
            "x",
            "--auth-rate-limit",
            "x",
            "--quotas",
            "x",
            "--oauth-return-urls",
            "x",
            "--trusted-proxies",
            "x",
            "--cors-origins",
            "x",
            "--max-connections",
            "0",
            "--http-head-timeout-s",
            "x",
            "--max-file-size-bytes",
            "x",
            "--allowed-media-types",
            "x",
        ]);
        let text = cli.config().err().unwrap().to_string();
        for name in [
            "DATABASE_URL",
            "REDIS_URL",
            "MASTER_KEYS",
            "API_ADDR",
            "PUBLIC_URL",
            "REGISTRATION",
            "SHUTDOWN_GRACE_S",
            "EGRESS_ALLOW_CIDRS",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "SENTRY_DSN",
            "RATE_LIMITS",
            "AUTH_RATE_LIMIT",
            "QUOTAS",
            "OAUTH_RETURN_URLS",
            "TRUSTED_PROXIES",
            "CORS_ORIGINS",
            "MAX_CONNECTIONS",
            "HTTP_HEAD_TIMEOUT_S",
            "MAX_FILE_SIZE_BYTES",
            "ALLOWED_MEDIA_TYPES",
        ] {
            assert!(text.contains(&format!("\n  {name}: ")), "{name} in {text}");
        }
    }
}
