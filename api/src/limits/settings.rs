//! How much may be asked for.

use std::str::FromStr;

use millwork_shared::tenants::Plan;

/// Requests a minute of a tenant, of one person in it, and of one API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanLimits {
    pub tenant: u32,
    pub user: u32,
    pub api_key: u32,
}

/// `RATE_LIMITS` and `AUTH_RATE_LIMIT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitSettings {
    /// In the order of [`Plan::ALL`].
    pub plans: [PlanLimits; 3],
    /// Requests a minute to `/auth` by one address.
    pub address: u32,
}

impl Default for LimitSettings {
    /// So high that no installation that has not thought about its limits is bothered by them.
    fn default() -> Self {
        let all = |most| PlanLimits { tenant: most, user: most, api_key: most };
        Self { plans: [all(6_000_000), all(12_000_000), all(24_000_000)], address: 6_000 }
    }
}

impl LimitSettings {
    pub fn of(&self, plan: Plan) -> PlanLimits {
        self.plans[plan as usize]
    }
}

/// `starter=6000/600/1200,pro=…`: tenant, person, API key. Plans that are not named keep their defaults.
impl FromStr for LimitSettings {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut settings = Self::default();
        for part in text.split(',').map(str::trim) {
            let fault = || format!("`{part}` is not of the form plan=tenant/user/key, such as starter=6000/600/1200");
            let (plan, limits) = part.split_once('=').ok_or_else(fault)?;
            let plan: Plan = plan.trim().parse()?;
            let limits: Vec<u32> =
                limits.split('/').map(|n| n.trim().parse()).collect::<Result<_, _>>().map_err(|_| fault())?;
            let [tenant, user, api_key] = limits[..] else { return Err(fault()) };
            if limits.iter().any(|n| !(1..=1_000_000_000).contains(n)) {
                return Err(format!("`{part}`: a limit is 1 to 1000000000 requests a minute"));
            }
            settings.plans[plan as usize] = PlanLimits { tenant, user, api_key };
        }
        Ok(settings)
    }
}

/// Most of `AUTH_RATE_LIMIT`.
pub fn parse_address_limit(text: &str) -> Result<u32, String> {
    let limit = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if (1..=1_000_000).contains(&limit) { Ok(limit) } else { Err(format!("{limit} is not in 1 to 1000000")) }
}

/// What a request costs, in plain requests.
pub fn cost(method: &str, pattern: &str) -> u32 {
    match (method, pattern.strip_prefix("/api/v1").unwrap_or(pattern)) {
        ("POST", "/jobs/batch") => 10,
        (
            "POST",
            "/jobs/replay" | "/jobs/cancel" | "/jobs/cleanup" | "/exports" | "/auth/personal-data" | "/imports",
        ) => 20,
        ("GET", "/jobs/stats" | "/audit-logs" | "/search" | "/usage") => 5,
        _ => 1,
    }
}

/// Whether a route is limited by address: those that take a password or a token that is good once.
pub fn is_by_address(method: &str, pattern: &str) -> bool {
    let path = pattern.strip_prefix("/api/v1").unwrap_or(pattern);
    (method == "POST" && (path.starts_with("/auth/") || path == "/invitations/accept"))
        || path.starts_with("/auth/oauth/")
        || path.starts_with("/admin/auth/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_by_plan() {
        let settings: LimitSettings = "starter=60/10/20, enterprise=9/8/7".parse().unwrap();
        assert_eq!(settings.of(Plan::Starter), PlanLimits { tenant: 60, user: 10, api_key: 20 });
        assert_eq!(settings.of(Plan::Pro), LimitSettings::default().of(Plan::Pro));
        assert_eq!(settings.of(Plan::Enterprise).api_key, 7);
        for bad in
            ["", "starter", "starter=1", "starter=1/2", "starter=1/2/x", "gold=1/2/3", "pro=0/1/1", "pro=1/2/3/4"]
        {
            assert!(bad.parse::<LimitSettings>().is_err(), "{bad}");
        }
    }
}
