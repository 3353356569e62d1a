//! `smtp://user:password@host:port?…`

use std::time::Duration;

use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use percent_encoding::percent_decode_str;
use tokio::sync::Semaphore;
use url::{Host, Url};

use super::circuit::Circuit;
use super::idle::Idle;
use super::server::{Security, Server};

const CONNECTIONS: usize = 20;
const MOST_CONNECTIONS: usize = 500;
const IDLE_S: u64 = 60;
const MOST_IDLE_S: u64 = 300; // after which RFC 5321 lets a server hang up

impl Server {
    /// Parses one server's URL. Nothing is connected; the certificates that TLS needs are read.
    ///
    /// # Errors
    /// Says what is wrong, without the password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|e| format!("not a URL: {e}"))?;
        let implicit = match url.scheme() {
            "smtp" => false,
            "smtps" => true,
            other => return Err(format!("`{other}:` is not one of smtp:, smtps: and file:")),
        };
        let host = match url.host() {
            Some(Host::Ipv6(addr)) => addr.to_string(),
            Some(host) if !host.to_string().is_empty() => host.to_string(),
            _ => return Err("the host is missing".into()),
        };
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err("nothing but ?options may follow the host".into());
        }
        let options = Options::parse(&url)?;
        let tls = || options.tls_parameters(&host);
        let (security, usual_port) = match (implicit, options.tls.as_deref()) {
            (true, None | Some("required")) => (Security::Implicit(tls()?), 465),
            (true, Some(_)) => return Err("smtps: is always encrypted; leave out tls=".into()),
            (false, None | Some("opportunistic")) => (Security::Opportunistic(tls()?), 587),
            (false, Some("required")) => (Security::StartTls(tls()?), 587),
            (false, Some("none")) => (Security::None, 25),
            (false, Some(other)) => return Err(format!("tls={other} is not one of required, opportunistic and none")),
        };
        let port = url.port().unwrap_or(usual_port);
        Ok(Self {
            host,
            port,
            security,
            credentials: credentials(&url)?,
            hello: ClientId::default(), // the host's name
            circuit: Circuit::default(),
            idle: Idle::new(Duration::from_secs(options.idle_s)),
            slots: Semaphore::new(options.connections),
        })
    }
}

#[derive(Default)]
struct Options {
    tls: Option<String>,
    ca: Option<String>,
    connections: usize,
    idle_s: u64,
}

impl Options {
    fn parse(url: &Url) -> Result<Self, String> {
        let mut options = Self { connections: CONNECTIONS, idle_s: IDLE_S, ..Self::default() };
        for (name, value) in url.query_pairs() {
            match name.as_ref() {
                "tls" => options.tls = Some(value.into_owned()),
                "ca" => options.ca = Some(value.into_owned()),
                "connections" => match value.parse() {
                    Ok(n) if (1..=MOST_CONNECTIONS).contains(&n) => options.connections = n,
                    _ => return Err(format!("connections={value} is not a number from 1 to {MOST_CONNECTIONS}")),
                },
                "idle_s" => match value.parse() {
                    Ok(n) if (1..=MOST_IDLE_S).contains(&n) => options.idle_s = n,
                    _ => return Err(format!("idle_s={value} is not a number from 1 to {MOST_IDLE_S}")),
                },
                other => return Err(format!("?{other}= is not one of tls, ca, connections and idle_s")),
            }
        }
        Ok(options)
    }

    /// Trusts what the system trusts, and the certificate in the file of `ca=`.
    fn tls_parameters(&self, host: &str) -> Result<TlsParameters, String> {
        let mut builder = TlsParameters::builder(host.to_owned());
        if let Some(path) = &self.ca {
            let pem = std::fs::read(path).map_err(|e| format!("ca={path}: {e}"))?;
            let certificate = Certificate::from_pem(&pem).map_err(|e| format!("ca={path}: {e}"))?;
            builder = builder.add_root_certificate(certificate);
        }
        builder.build_rustls().map_err(|e| {
            format!(
                "TLS cannot be set up: {e}; install the system's CA certificates, or name one by ca=, or use tls=none"
            )
        })
    }
}

fn credentials(url: &Url) -> Result<Option<Credentials>, String> {
    let decode = |text: &str| {
        let plain = percent_decode_str(text).decode_utf8().map(String::from);
        plain.map_err(|_| "user or password is not percent-encoded UTF-8".to_owned())
    };
    match (url.username(), url.password()) {
        ("", None) => Ok(None),
        ("", Some(_)) => Err("there is a password but no user".into()),
        (_, None) => Err("there is a user but no password".into()),
        (user, Some(password)) => Ok(Some(Credentials::new(decode(user)?, decode(password)?))),
    }
}
