//! `OAUTH_<NAME>_CLIENT_ID`, `_CLIENT_SECRET` and `_ISSUER`: who people may sign in by. `OAUTH_RETURN_URLS`: where a
//! front end waits for them.

use std::collections::BTreeMap;

use millwork_shared::infra::config::Faults;
use millwork_shared::infra::crypto::Secret;
use url::{Host, Url};

/// Providers that are read at most.
const MOST: usize = 32;
const LONGEST_NAME: usize = 40;
const LONGEST_RETURN_URL: usize = 500;
/// GitHub speaks OAuth 2.0 alone, in a way of its own.
const GITHUB: &str = "github";
const GITHUB_BASE: &str = "https://github.com";
/// Names no provider: POST `/auth/oauth/exchange`.
const RESERVED: &str = "exchange";

/// Who people may sign in by, and where they are sent afterwards.
#[derive(Debug, Clone, Default)]
pub struct OAuthSettings {
    pub providers: Vec<ProviderSettings>,
    /// Front ends that may be sent a code, word for word.
    pub return_urls: Vec<String>,
}

/// One provider.
#[derive(Debug, Clone)]
pub struct ProviderSettings {
    /// In addresses: lower case, with dashes.
    pub name: String,
    pub client_id: String,
    pub client_secret: Secret<String>,
    pub kind: Kind,
    /// As the operator wrote it, for GitHub its address; identities are kept by it.
    pub issuer: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// github.com, or a GitHub Enterprise Server at the issuer's address.
    GitHub,
    /// Whoever publishes `/.well-known/openid-configuration`.
    OpenId,
}

impl OAuthSettings {
    /// Reads every provider that `variables` speak of; others are left alone.
    pub fn read(
        variables: impl IntoIterator<Item = (String, String)>,
        return_urls: &Option<String>,
        faults: &mut Faults,
    ) -> Self {
        let mut parts = BTreeMap::<String, [Option<String>; 3]>::new();
        for (variable, value) in variables {
            let Some(rest) = variable.strip_prefix("OAUTH_") else { continue };
            for (n, ending) in ENDINGS.into_iter().enumerate() {
                if let Some(name) = rest.strip_suffix(ending)
                    && !value.trim().is_empty()
                {
                    parts.entry(name.to_owned()).or_default()[n] = Some(value.trim().to_owned());
                }
            }
        }
        if parts.len() > MOST {
            faults.push("OAUTH_*", format!("{} providers are named; {MOST} is the most", parts.len()));
        }
        let providers = parts.into_iter().filter_map(|(name, parts)| provider(&name, parts, faults)).collect();
        let return_urls = faults.optional("OAUTH_RETURN_URLS", return_urls, return_urls_of).unwrap_or_default();
        Self { providers, return_urls }
    }
}

const ENDINGS: [&str; 3] = ["_CLIENT_ID", "_CLIENT_SECRET", "_ISSUER"];

fn provider(
    variable: &str,
    [id, secret, issuer]: [Option<String>; 3],
    faults: &mut Faults,
) -> Option<ProviderSettings> {
    let well_formed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if variable.is_empty() || variable.len() > LONGEST_NAME || !variable.chars().all(well_formed) {
        let fault = format!("a provider's name has 1 to {LONGEST_NAME} capitals, digits and `_`");
        faults.push(&format!("OAUTH_{variable}_*"), fault);
        return None;
    }
    let name = variable.to_lowercase().replace('_', "-");
    if name == RESERVED {
        faults.push(&format!("OAUTH_{variable}_*"), "the name is an address of its own; take another");
        return None;
    }
    let kind = if name == GITHUB { Kind::GitHub } else { Kind::OpenId };
    let issuer = issuer.or((kind == Kind::GitHub).then(|| GITHUB_BASE.to_owned()));
    let variable = |ending| format!("OAUTH_{variable}{ending}");
    let client_id = faults.required(&variable("_CLIENT_ID"), &id, |id| Ok::<_, String>(id.to_owned()));
    let client_secret = faults.required(&variable("_CLIENT_SECRET"), &secret, |s| Ok::<_, String>(s.to_owned()));
    let issuer = faults.required(&variable("_ISSUER"), &issuer, check_issuer);
    Some(ProviderSettings {
        name,
        client_id: client_id?,
        client_secret: Secret::new(client_secret?),
        kind,
        issuer: issuer?,
    })
}

/// An issuer as it is: what its tokens say must be the same text. A slash at the end of a lone host matters to nobody
/// else.
fn check_issuer(text: &str) -> Result<String, String> {
    let fault = |what: &str| Err(format!("`{text}` {what}"));
    let Ok(url) = Url::parse(text) else { return fault("is not a URL such as https://login.example.com") };
    let secure = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
    if !secure {
        return fault("must begin with https:// (http:// is for this machine alone)");
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return fault("must have neither user, query nor fragment");
    }
    Ok(text.to_owned())
}

pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn return_urls_of(text: &str) -> Result<Vec<String>, String> {
    let one = |text: &str| {
        let good = Url::parse(text).is_ok_and(|url| {
            (url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url)))
                && url.username().is_empty()
                && url.password().is_none()
                && url.fragment().is_none()
        });
        if good && text.len() <= LONGEST_RETURN_URL {
            return Ok(text.to_owned());
        }
        Err(format!("`{text}` is not a URL such as https://app.example.com/signed-in (http:// for this machine alone)"))
    };
    text.split(',').map(str::trim).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)], return_urls: &str) -> Result<OAuthSettings, String> {
        let mut faults = Faults::default();
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings = OAuthSettings::read(variables, &Some(return_urls.to_owned()), &mut faults);
        faults.finish().map(|()| settings).map_err(|fault| fault.to_string())
    }

    #[test]
    fn providers_are_found_by_the_names_of_variables() {
        let settings = read(
            &[
                ("PATH", "/bin"),
                ("OAUTH_GITHUB_CLIENT_ID", "a"),
                ("OAUTH_GITHUB_CLIENT_SECRET", "b"),
                ("OAUTH_ACME_SSO_CLIENT_ID", "c"),
                ("OAUTH_ACME_SSO_CLIENT_SECRET", "d"),
                ("OAUTH_ACME_SSO_ISSUER", "https://login.acme.example/realms/x"),
                ("OAUTH_EMPTY_CLIENT_ID", " "),
                ("OAUTH_TOKEN", "of another program"),
            ],
            "https://app.example/in, http://localhost:3000/in?x=1",
        )
        .unwrap();
        let found: Vec<_> = settings.providers.iter().map(|p| (p.name.as_str(), p.kind, p.issuer.as_str())).collect();
        assert_eq!(
            found,
            [
                ("acme-sso", Kind::OpenId, "https://login.acme.example/realms/x"),
                ("github", Kind::GitHub, "https://github.com"),
            ]
        );
        assert_eq!(settings.return_urls, ["https://app.example/in", "http://localhost:3000/in?x=1"]);
        assert!(!format!("{settings:?}").contains("\"d\""), "a secret prints");
    }

    #[test]
    fn every_fault_names_its_variable() {
        let fault = read(
            &[
                ("OAUTH_A_CLIENT_ID", "a"),
                ("OAUTH_B_CLIENT_ID", "a"),
                ("OAUTH_B_CLIENT_SECRET", "a"),
                ("OAUTH_B_ISSUER", "http://b.example"),
                ("OAUTH_c_CLIENT_ID", "a"),
                ("OAUTH_EXCHANGE_CLIENT_ID", "a"),
            ],
            "app.example",
        )
        .unwrap_err();
        for named in [
            "OAUTH_A_CLIENT_SECRET: missing",
            "OAUTH_A_ISSUER: missing",
            "OAUTH_B_ISSUER: `http://b.example` must begin with https://",
            "OAUTH_c_*: ",
            "OAUTH_EXCHANGE_*: ",
            "OAUTH_RETURN_URLS: `app.example`",
        ] {
            assert!(fault.contains(named), "{named} in {fault}");
        }
        for bad in ["x", "https://a@b.example", "https://b.example?x", "https://b.example#x", "ftp://b.example"] {
            assert!(check_issuer(bad).is_err(), "{bad}");
        }
        for bad in ["http://app.example/in", "https://app.example/in#x", "javascript:alert(1)", ""] {
            assert!(return_urls_of(bad).is_err(), "{bad}");
        }
    }
}
