//! Where a tenant's people and programs may come from.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::infra::networks;

/// Every statement on `ip_rules`.
pub mod queries;

/// Rules of one tenant.
pub const RULES_PER_TENANT: i64 = 100;

/// What becomes of who comes from a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Allow,
    Deny,
}

impl Action {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// The rules of a tenant: who is in a network that is denied is refused, and, as soon as any network is allowed,
/// whoever is in none of those.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpRules {
    allowed: Vec<IpNet>,
    denied: Vec<IpNet>,
}

impl IpRules {
    /// As the statements give them: `allow 10.0.0.0/8`.
    pub fn from_texts(texts: &[String]) -> Self {
        let mut rules = Self::default();
        for (action, network) in texts.iter().filter_map(|text| text.split_once(' ')) {
            match networks::parse(network) {
                Ok(net) if action == Action::Deny.as_str() => rules.denied.push(net),
                Ok(net) => rules.allowed.push(net),
                Err(error) => tracing::error!(error, "a rule on addresses cannot be read; it counts for nothing"),
            }
        }
        rules
    }

    /// Whether a request from `address` may go on; one whose address is not known may where there are no rules.
    pub fn admit(&self, address: Option<IpAddr>) -> bool {
        if self.denied.is_empty() && self.allowed.is_empty() {
            return true;
        }
        let Some(address) = address.map(|address| address.to_canonical()) else { return false };
        let is_in = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
        !is_in(&self.denied) && (self.allowed.is_empty() || is_in(&self.allowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denied_networks_come_before_allowed_ones_and_those_before_the_rest() {
        let admits = |rules: &[&str], address: &str| {
            let texts: Vec<String> = rules.iter().map(|rule| (*rule).to_owned()).collect();
            IpRules::from_texts(&texts).admit(address.parse().ok())
        };
        for (rules, address, expected) in [
            (&[][..], "203.0.113.7", true),
            (&["deny 203.0.113.0/24"], "203.0.113.7", false),
            (&["deny 203.0.113.0/24"], "203.0.114.7", true),
            (&["allow 203.0.113.0/24"], "203.0.113.7", true),
            (&["allow 203.0.113.0/24"], "203.0.114.7", false),
            (&["allow 203.0.113.0/24"], "2001:db8::1", false),
            (&["allow 203.0.113.0/24", "allow 2001:db8::/32"], "2001:db8::1", true),
            (&["allow 203.0.113.0/24", "deny 203.0.113.7/32"], "203.0.113.7", false),
            (&["allow 203.0.113.0/24", "deny 203.0.113.7/32"], "203.0.113.8", true),
            (&["deny 0.0.0.0/0"], "203.0.113.7", false),
            (&["allow 203.0.113.0/24"], "::ffff:203.0.113.7", true),
        ] {
            assert_eq!(admits(rules, address), expected, "{rules:?} {address}");
        }
        assert!(IpRules::default().admit(None));
        assert!(
            !IpRules::from_texts(&["deny 203.0.113.0/24".to_owned()]).admit(None),
            "nobody hides by coming from nowhere"
        );
    }
}
