//! Networks as people write them.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// A network such as `10.1.0.0/16`; an address alone is a network of one. One of IPv4-mapped addresses
/// (`::ffff:10.0.0.0/104`) is the IPv4 network that it stands for, as addresses are compared in that form.
///
/// # Errors
/// Says what it should look like.
pub fn parse(text: &str) -> Result<IpNet, String> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let net = net.map_err(|_| format!("`{text}` is not a network such as 10.1.0.0/16 or fd00::/8"))?;
    let IpNet::V6(v6) = net else { return Ok(net) };
    let mapped = v6.addr().to_ipv4_mapped().filter(|_| v6.prefix_len() >= 96);
    Ok(mapped.and_then(|v4| Ipv4Net::new(v4, v6.prefix_len() - 96).ok()).map_or(net, IpNet::V4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_read_in_every_spelling() {
        for (text, expected) in [
            ("10.1.0.0/16", "10.1.0.0/16"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("fd00::/8", "fd00::/8"),
            ("::1", "::1/128"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.1.2.3", "10.1.2.3/32"),
            ("::ffff:0:0/95", "::ffff:0.0.0.0/95"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), expected, "{text}");
        }
        for bad in ["", "x", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/8/8", "1.2.3.4:80"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
