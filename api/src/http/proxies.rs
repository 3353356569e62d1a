//! `X-Forwarded-For`, as far as it can be believed.
//!
//! Each proxy adds the address it was called from at the end. So the list is read from the right, for as long as the
//! one who wrote an entry is trusted: whatever stands left of that, the client may have made up.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use millwork_shared::infra::networks;
use poem::http::{HeaderMap, HeaderName};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Proxies in a row.
const MOST_HOPS: usize = 16;
/// Networks of `TRUSTED_PROXIES`.
const MOST_NETS: usize = 64;
/// Longest spelling of an address with its port.
const ENTRY_MAX_BYTES: usize = 64;

/// `TRUSTED_PROXIES`: who may say for whom a request is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Whether what `address` says of others counts.
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&address))
    }

    /// Where a request on a connection from `peer` comes from: the right-most address that is not a proxy of ours.
    ///
    /// An entry that is no address ends the search at the proxy that wrote it, and so does a list without end.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if self.0.is_empty() || !self.contain(client) {
            return client;
        }
        let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
        let entries = lines.flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b','));
        for entry in entries.take(MOST_HOPS) {
            let Some(address) = address(entry) else { break };
            client = address;
            if !self.contain(client) {
                break;
            }
        }
        client
    }
}

/// An address with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim_matches([' ', '\t']);
    if text.len() > ENTRY_MAX_BYTES {
        return None;
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.parse::<IpAddr>().ok().or_else(with_port).map(|address| address.to_canonical())
}

fn network(text: &str) -> Result<IpNet, String> {
    let net = networks::parse(text)?;
    if net.prefix_len() == 0 {
        return Err(format!("`{text}` trusts everybody, so that clients could choose their address"));
    }
    Ok(net)
}

impl FromStr for TrustedProxies {
    type Err = String;

    /// Comma separated; an address alone is a network of one.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let nets: Vec<IpNet> = parts.map(network).collect::<Result<_, _>>()?;
        if nets.len() > MOST_NETS {
            return Err(format!("{} networks; at most {MOST_NETS} are allowed", nets.len()));
        }
        Ok(Self(nets))
    }
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderValue;

    use super::*;

    fn client(peer: &str, lines: &[&str]) -> String {
        let proxies: TrustedProxies = "10.0.0.0/8, 2001:db8::/32,::ffff:192.0.2.0/120".parse().unwrap();
        let line = |line: &&str| (X_FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        proxies.client(peer.parse().unwrap(), &lines.iter().map(line).collect()).to_string()
    }

    #[test]
    fn the_client_is_the_right_most_address_that_is_no_proxy() {
        for (peer, lines, expected) in [
            ("203.0.113.7", &["1.1.1.1"][..], "203.0.113.7"), // not from a proxy of ours
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["1.1.1.1, 203.0.113.7"], "203.0.113.7"), // 1.1.1.1 is the client's own invention
            ("10.0.0.1", &["1.1.1.1,203.0.113.7 ,\t10.9.9.9"], "203.0.113.7"),
            ("10.0.0.1", &["1.1.1.1", "203.0.113.7", "10.2.2.2"], "203.0.113.7"), // several headers are one list
            ("10.0.0.1", &["10.3.3.3, 10.2.2.2"], "10.3.3.3"),                    // a call from within
            ("::ffff:10.0.0.1", &["::ffff:203.0.113.7"], "203.0.113.7"),
            ("192.0.2.9", &["203.0.113.7"], "203.0.113.7"), // the mapped network
            ("2001:db8::1", &["[2001:470::7]:4711, [2001:db8::2]"], "2001:470::7"),
            ("10.0.0.1", &["203.0.113.7:4711"], "203.0.113.7"),
        ] {
            assert_eq!(client(peer, lines), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn what_is_no_address_is_not_believed() {
        for entry in [
            "",
            "unknown",
            "_hidden",
            "203.0.113",
            "203.0.113.7/24",
            "[203.0.113.7",
            "fe80::1%eth0",
            "for=1.1.1.1",
            "é",
        ] {
            assert_eq!(client("10.0.0.1", &[&format!("1.1.1.1, {entry}")]), "10.0.0.1", "{entry}");
            assert_eq!(client("10.0.0.1", &[&format!("1.1.1.1, {entry}, 10.2.2.2")]), "10.2.2.2", "{entry}");
        }
        let long = format!("1.1.1.1, {}", ["10.0.0.2"; MOST_HOPS].join(","));
        assert_eq!(client("10.0.0.1", &[&long]), "10.0.0.2", "a list without end is not followed");
    }

    #[test]
    fn without_proxies_the_header_says_nothing() {
        let headers = HeaderMap::from_iter([(X_FORWARDED_FOR, HeaderValue::from_static("1.1.1.1"))]);
        let none = TrustedProxies::default();
        assert_eq!(none.client("127.0.0.1".parse().unwrap(), &headers).to_string(), "127.0.0.1");
        for bad in ["x", "10.0.0.0/33", "0.0.0.0/0", "::/0", "::ffff:0.0.0.0/96", &"10.0.0.1,".repeat(65)] {
            assert!(bad.parse::<TrustedProxies>().is_err(), "{bad}");
        }
    }
}
