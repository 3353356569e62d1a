//! What may be called from here: rules on addresses and URLs that third parties give us.
//!
//! The API refuses what is plainly wrong when it is registered; the worker checks again, and checks every address that a
//! name resolves to, when it calls.

use std::fmt;
use std::net::IpAddr;

use clap::Args;
use url::{Host, Url};

use crate::infra::config::{Faults, parse};

mod addresses;
mod headers;

pub use addresses::AllowedNets;
pub use headers::{HEADERS_MAX, HEADERS_MAX_BYTES, header_fault, headers_faults};

/// Longest URL, in bytes, before and after normalisation.
pub const URL_MAX_BYTES: usize = 2048;

#[derive(Debug, Clone, Args)]
pub struct EgressArgs {
    /// Networks exempt from the ban on calling private addresses: 10.1.0.0/16,fd00::/8 [default: none]
    #[arg(long, env = "EGRESS_ALLOW_CIDRS")]
    egress_allow_cidrs: Option<String>,
}

impl EgressArgs {
    pub fn read(&self, faults: &mut Faults) -> AllowedNets {
        faults.optional("EGRESS_ALLOW_CIDRS", &self.egress_allow_cidrs, parse).unwrap_or_default()
    }
}

/// A URL that may be called as far as its text tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(Url);

/// Why a URL is not a [`Target`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetFault {
    /// Stable, snake_case.
    pub code: &'static str,
    pub detail: String,
}

impl Target {
    /// Parses `text` as browsers do, so that `http://0x7f.1/` is known for the address it is.
    ///
    /// # Errors
    /// Refuses other schemes than http and https, user names and passwords, and literal addresses that `nets` refuses. A
    /// host *name* is judged when it is called, by what it resolves to then.
    pub fn parse(text: &str, nets: &AllowedNets) -> Result<Self, TargetFault> {
        let fault = |code, detail: String| TargetFault { code, detail };
        if text.len() > URL_MAX_BYTES {
            return Err(fault("url_too_long", format!("{} bytes; at most {URL_MAX_BYTES} are allowed", text.len())));
        }
        let url = Url::parse(text).map_err(|e| fault("url_invalid", format!("not an absolute URL: {e}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(fault("url_scheme", format!("`{}` is not supported; use https or http", url.scheme())));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(fault("url_credentials", "credentials do not belong in a URL; send a header instead".into()));
        }
        if url.as_str().len() > URL_MAX_BYTES {
            return Err(fault("url_too_long", format!("more than {URL_MAX_BYTES} bytes once normalised")));
        }
        if url.port() == Some(0) {
            return Err(fault("url_invalid", "port 0 cannot be called".into()));
        }
        let address = match url.host() {
            None => return Err(fault("url_invalid", "the URL has no host".into())),
            Some(Host::Domain(name)) => {
                let name = name.trim_end_matches('.');
                let local = name == "localhost" || name.ends_with(".localhost"); // RFC 6761
                local.then_some(IpAddr::from([127, 0, 0, 1]))
            }
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        };
        match address.and_then(|address| nets.refusal(address).map(|why| (address, why))) {
            Some((address, why)) => Err(fault("url_private_address", format!("{address} must not be called: {why}"))),
            None => Ok(Self(url)),
        }
    }

    pub fn url(&self) -> &Url {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for TargetFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> &'static str {
        Target::parse(text, &AllowedNets::default()).map_or_else(|fault| fault.code, |_| "fine")
    }

    #[test]
    fn only_plain_web_addresses_pass() {
        for (text, expected) in [
            ("https://example.com/hook?x=1#f", "fine"),
            ("HTTP://EXAMPLE.com:8080", "fine"),
            ("http://8.8.8.8/", "fine"),
            ("http://[2606:4700::1111]/", "fine"),
            ("https://127.0.0.1.example.com/", "fine"),
            ("https://xn--mnchen-3ya.example/", "fine"),
            ("", "url_invalid"),
            ("/hook", "url_invalid"),
            ("example.com", "url_invalid"),
            ("http://", "url_invalid"),
            ("http://exa mple.com/", "url_invalid"),
            ("http://example.com:0/", "url_invalid"),
            ("http://example.com:65536/", "url_invalid"),
            ("http://1.2.3.256/", "url_invalid"),
            ("http://[fe80::1%25eth0]/", "url_invalid"),
            ("ftp://example.com/", "url_scheme"),
            ("file:///etc/passwd", "url_scheme"),
            ("gopher://example.com/", "url_scheme"),
            ("javascript:alert(1)", "url_scheme"),
            ("https://user@example.com/", "url_credentials"),
            ("https://user:secret@example.com/", "url_credentials"),
            ("https://:secret@example.com/", "url_credentials"),
        ] {
            assert_eq!(code(text), expected, "{text}");
        }
    }

    #[test]
    fn a_private_address_is_refused_in_every_spelling() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "017700000001",
            "127.0.0.1.",
            "%31%32%37.0.0.1",
            "１２７.0.0.1",
            "127。0。0。1",
            "0",
            "0.0.0.0",
            "10.0.0.1",
            "0xa9fea9fe",
            "169.254.169.254",
            "192.168.0.1",
            "100.64.0.1",
            "255.255.255.255",
            "[::]",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b:1::1]",
            "[2002:7f00:1::]",
            "[fd00::1]",
            "[fe80::1]",
            "[ff02::1]",
            "localhost",
            "LOCALHOST.",
            "api.localhost",
        ] {
            assert_eq!(code(&format!("http://{host}:9000/hook")), "url_private_address", "{host}");
        }
    }

    #[test]
    fn an_exempt_network_may_be_named_literally() {
        let nets: AllowedNets = "127.0.0.0/8".parse().unwrap();
        for host in ["127.0.0.1", "0x7f.1", "localhost"] {
            assert!(Target::parse(&format!("http://{host}/"), &nets).is_ok(), "{host}");
        }
        assert!(Target::parse("http://[::1]/", &nets).is_err());
        assert!(Target::parse("http://10.0.0.1/", &nets).is_err());
    }

    #[test]
    fn the_length_counts_before_and_after_normalisation() {
        let fits = format!("https://example.com/{}", "a".repeat(URL_MAX_BYTES - 20));
        assert_eq!(code(&fits), "fine");
        assert_eq!(code(&format!("{fits}a")), "url_too_long");
        assert_eq!(code(&format!("https://example.com/{}", "é".repeat(600))), "url_too_long");
    }
}
