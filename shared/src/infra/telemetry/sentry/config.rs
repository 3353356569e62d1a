//! Whether and where faults are reported.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use sentry::transports::ReqwestHttpTransportOptions;
use sentry::types::Dsn;
use sentry::{Client, ClientOptions, Transport, TransportFactory, TransportOptions};

use crate::infra::config::Faults;

/// Longest time one report may take to be sent.
const DEADLINE: Duration = Duration::from_secs(5);
/// Reports that wait to be sent; more are dropped.
const WAITING: usize = 64;

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sentry")]
pub struct SentryArgs {
    /// Where faults are reported: https://key@host/project [default: nowhere]
    #[arg(long, env = "SENTRY_DSN", hide_env_values = true)]
    sentry_dsn: Option<String>,
    /// What Sentry calls this installation [default: production]
    #[arg(long, env = "SENTRY_ENVIRONMENT")]
    sentry_environment: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Settings {
    dsn: Dsn,
    environment: String,
}

impl SentryArgs {
    /// None when faults are reported nowhere.
    pub fn read(&self, faults: &mut Faults) -> Option<Settings> {
        let parse = |text: &str| text.parse().map_err(|e| format!("not a DSN such as https://key@host/7: {e}"));
        let dsn = faults.optional("SENTRY_DSN", &self.sentry_dsn, parse)?;
        let environment = self.sentry_environment.as_deref().map(str::trim).filter(|name| !name.is_empty());
        Some(Settings { dsn, environment: environment.unwrap_or("production").to_owned() })
    }
}

/// The client of the project, without integrations: it sends what it is given and finds out nothing by itself.
pub(super) fn client(settings: Settings) -> anyhow::Result<Client> {
    #[expect(clippy::disallowed_methods, reason = "its address is the operator's, and it has a deadline")]
    let http = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(DEADLINE)
        .build()
        .context("the HTTP client for Sentry cannot be made")?;
    let mut options = ClientOptions::default();
    options.dsn = Some(settings.dsn);
    options.environment = Some(settings.environment.into());
    options.release = Some(concat!("millwork@", env!("CARGO_PKG_VERSION")).into());
    options.server_name = std::env::var("HOSTNAME").ok().map(Into::into);
    options.default_integrations = false;
    options.transport = Some(Arc::new(ByOurClient(http)));
    options.transport_channel_capacity = NonZeroUsize::new(WAITING);
    Ok(Client::with_options(options))
}

/// Sentry's own transport, over a client with a deadline.
struct ByOurClient(reqwest::Client);

impl TransportFactory for ByOurClient {
    fn create_transport_with_options(&self, options: TransportOptions) -> Arc<dyn Transport> {
        Arc::new(ReqwestHttpTransportOptions::from(options).with_client(self.0.clone()).build())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_dsn_is_named_and_none_reports_nowhere() {
        let read = |dsn: &str| {
            let mut faults = Faults::default();
            let args = SentryArgs { sentry_dsn: Some(dsn.to_owned()), sentry_environment: None };
            let settings = args.read(&mut faults);
            faults.finish().map(|()| settings.map(|s| s.environment))
        };
        assert_eq!(read("").unwrap(), None);
        assert_eq!(read("http://key@127.0.0.1:9000/7").unwrap().as_deref(), Some("production"));
        for bad in ["x", "https://host/7", "https://key@host"] {
            assert!(read(bad).unwrap_err().to_string().contains("SENTRY_DSN: not a DSN"), "{bad}");
        }
    }
}
