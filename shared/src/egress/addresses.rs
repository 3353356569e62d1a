//! Which addresses may be called from inside a network that has more to protect than a client can see.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::infra::networks;

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix)
}

/// IANA's special-purpose registry of IPv4, without what is reachable from everywhere.
const REFUSED_V4: [(Ipv4Net, &str); 15] = [
    (v4(0, 0, 0, 0, 8), "unspecified"),
    (v4(10, 0, 0, 0, 8), "private"),
    (v4(100, 64, 0, 0, 10), "carrier-grade NAT"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    (v4(169, 254, 0, 0, 16), "link-local"),
    (v4(172, 16, 0, 0, 12), "private"),
    (v4(192, 0, 0, 0, 24), "reserved"),
    (v4(192, 0, 2, 0, 24), "documentation"),
    (v4(192, 88, 99, 0, 24), "6to4 relay"),
    (v4(192, 168, 0, 0, 16), "private"),
    (v4(198, 18, 0, 0, 15), "benchmarking"),
    (v4(198, 51, 100, 0, 24), "documentation"),
    (v4(203, 0, 113, 0, 24), "documentation"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(240, 0, 0, 0, 4), "reserved"), // and 255.255.255.255, broadcast
];

/// What IANA gives out as global unicast. All else (`::1`, `fc00::/7`, `fe80::/10`, `ff00::/8`, NAT64 `64:ff9b::/96`,
/// IPv4-mapped, IPv4-compatible …) is refused without being named.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 3);

/// The exceptions within [`GLOBAL_V6`].
const REFUSED_V6: [(Ipv6Net, &str); 4] = [
    (v6(0x2001, 0, 23), "reserved"), // with Teredo, 2001::/32, which embeds an IPv4 address
    (v6(0x2001, 0xdb8, 32), "documentation"),
    (v6(0x2002, 0, 16), "6to4"), // embeds an IPv4 address
    (v6(0x3fff, 0, 20), "documentation"),
];

/// Networks that the operator exempts from the ban, `EGRESS_ALLOW_CIDRS`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedNets(Vec<IpNet>);

impl AllowedNets {
    /// Why `address` must not be called; None when it may.
    pub fn refusal(&self, address: IpAddr) -> Option<&'static str> {
        if self.0.iter().any(|net| net.contains(&address)) {
            return None;
        }
        match address {
            IpAddr::V4(v4) => REFUSED_V4.iter().find(|(net, _)| net.contains(&v4)).map(|(_, why)| *why),
            IpAddr::V6(v6) if !GLOBAL_V6.contains(&v6) => Some("not globally reachable"),
            IpAddr::V6(v6) => REFUSED_V6.iter().find(|(net, _)| net.contains(&v6)).map(|(_, why)| *why),
        }
    }
}

impl FromStr for AllowedNets {
    type Err = String;

    /// Comma separated; an address alone is a network of one.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(networks::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for AllowedNets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nets: Vec<_> = self.0.iter().map(IpNet::to_string).collect();
        f.write_str(&nets.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(address: &str) -> bool {
        AllowedNets::default().refusal(address.parse().unwrap()).is_some()
    }

    #[test]
    fn every_special_network_is_refused_from_its_first_to_its_last_address() {
        for range in [
            ["0.0.0.0", "0.255.255.255"],
            ["10.0.0.0", "10.255.255.255"],
            ["100.64.0.0", "100.127.255.255"],
            ["127.0.0.0", "127.255.255.255"],
            ["169.254.0.0", "169.254.255.255"],
            ["172.16.0.0", "172.31.255.255"],
            ["192.0.0.0", "192.0.0.255"],
            ["192.0.2.0", "192.0.2.255"],
            ["192.88.99.0", "192.88.99.255"],
            ["192.168.0.0", "192.168.255.255"],
            ["198.18.0.0", "198.19.255.255"],
            ["198.51.100.0", "198.51.100.255"],
            ["203.0.113.0", "203.0.113.255"],
            ["224.0.0.0", "239.255.255.255"],
            ["240.0.0.0", "255.255.255.255"],
            ["::", "::1"],
            ["::127.0.0.1", "::8.8.8.8"],                           // IPv4-compatible
            ["::ffff:127.0.0.1", "::ffff:8.8.8.8"],                 // IPv4-mapped
            ["::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8"],             // IPv4-translated
            ["64:ff9b::", "64:ff9b::255.255.255.255"],              // NAT64
            ["64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"],  // local-use NAT64
            ["100::", "100::ffff:ffff:ffff:ffff"],                  // discard
            ["2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff"],     // Teredo
            ["2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff"],      // benchmarking
            ["2001:20::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff"], // ORCHIDv2
            ["2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"],
            ["2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], // 6to4
            ["3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"],
            ["5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], // segment routing
            ["fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], // unique local
            ["fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], // link-local
            ["fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], // site-local
            ["ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], // multicast
        ] {
            for address in range {
                assert!(refused(address), "{address}");
            }
        }
    }

    #[test]
    fn the_neighbours_of_special_networks_are_reachable() {
        for address in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.88.98.255",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "203.0.114.0",
            "223.255.255.255",
            "8.8.8.8",
            "2000::",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2001:db7::",
            "2001:db9::",
            "2003::",
            "2606:4700::1111",
            "3ffe:ffff::",
            "3fff:1000::",
            "2a00:1450::1",
        ] {
            assert!(!refused(address), "{address}");
        }
    }

    #[test]
    fn the_operator_opens_networks_one_by_one() {
        let nets: AllowedNets = " 127.0.0.0/8, fd00::/8,10.1.2.3 ,".parse().unwrap();
        let open = |address: &str| nets.refusal(address.parse().unwrap()).is_none();
        assert!(open("127.0.0.1") && open("fd12::1") && open("10.1.2.3") && open("8.8.8.8"));
        assert!(!open("10.1.2.4") && !open("::1") && !open("::ffff:127.0.0.1") && !open("192.168.0.1"));
        assert_eq!(nets.to_string().parse::<AllowedNets>().unwrap(), nets);
        assert!("127.0.0.1/33".parse::<AllowedNets>().unwrap_err().contains("127.0.0.1/33"));
    }
}
