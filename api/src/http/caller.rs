//! Who is calling, taken from the `Authorization` header.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use millwork_shared::audit::{self, Actor};
use millwork_shared::infra::ids::{ActorId, ApiKeyId, SessionId, TenantId, UserId};
use millwork_shared::ip_rules::IpRules;
use millwork_shared::tenants::{Permission, Permissions};
use poem::http::{StatusCode, header};
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use super::error::{ApiError, Result};
use super::request::RequestInfo;
use crate::App;
use crate::auth::verify::verify;

/// A caller that proved who it is, for one tenant. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Caller(Arc<Identity>);

#[derive(Debug)]
pub struct Identity {
    pub tenant: TenantId,
    /// For an API key: who made it.
    pub user: UserId,
    pub credential: Credential,
    /// Names; none for an API key, which has permissions of its own.
    pub roles: Vec<String>,
    /// Of an API key: what it was given and its maker still holds.
    pub permissions: Permissions,
    /// Where the tenant's callers may come from.
    pub ip_rules: IpRules,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// An access token of this session.
    Session(SessionId),
    ApiKey(ApiKeyId),
}

impl Caller {
    /// The caller of a request, for endpoints outside of poem-openapi.
    pub async fn of(request: &Request) -> Result<Self> {
        let missing = || {
            ApiError::unauthenticated(
                "unauthenticated",
                "send `Authorization: Bearer` with an access token or an API key",
            )
        };
        let header = request.headers().get(header::AUTHORIZATION).ok_or_else(missing)?;
        let (scheme, token) = header.to_str().ok().and_then(|h| h.split_once(' ')).ok_or_else(missing)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(missing());
        }
        let app = App::of(request)?;
        let caller = verify(app, token.trim()).await?;
        audit::act_as(match caller.credential {
            Credential::Session(_) => Actor::User(caller.user),
            Credential::ApiKey(key) => Actor::ApiKey(key),
        });
        // Before it counts: a stolen token must not use up the limits from where it is worth nothing.
        caller.check_address(request.data::<RequestInfo>().and_then(RequestInfo::address))?;
        app.limits.admit(request, &caller).await?;
        app.requests.count(caller.tenant);
        Ok(caller)
    }

    /// # Errors
    /// 403 where the tenant's rules keep the address out.
    fn check_address(&self, address: Option<IpAddr>) -> Result<()> {
        if self.ip_rules.admit(address) {
            return Ok(());
        }
        let detail = match address {
            Some(address) => format!("the tenant's IP rules keep out {address}; ask one of its administrators"),
            None => "the tenant's IP rules keep out who comes from nowhere".to_owned(),
        };
        Err(ApiError::new(StatusCode::FORBIDDEN, "ip_not_allowed", detail))
    }

    /// The person, or the API key.
    pub fn actor(&self) -> ActorId {
        ActorId(match self.credential {
            Credential::Session(_) => self.user.0,
            Credential::ApiKey(key) => key.0,
        })
    }

    /// For what a route's signature cannot say: see [`Permitted`](super::Permitted).
    ///
    /// # Errors
    /// 403, naming the permission.
    pub fn require(&self, permission: Permission) -> Result<()> {
        if self.permissions.contains(permission) { Ok(()) } else { Err(ApiError::forbidden(permission)) }
    }
}

impl From<Identity> for Caller {
    fn from(identity: Identity) -> Self {
        Self(Arc::new(identity))
    }
}

impl Deref for Caller {
    type Target = Identity;

    fn deref(&self) -> &Identity {
        &self.0
    }
}

const SCHEME: &str = "bearer";

impl<'a> ApiExtractor<'a> for Caller {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        let form = "An access token (a JWT from /auth/login) or an API key (`mw_<env>_<prefix>_<secret>`)";
        registry.create_security_scheme(SCHEME, bearer(form));
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self::of(request).await?)
    }
}

/// `Authorization: Bearer …`, as the document names it.
pub fn bearer(form: &'static str) -> MetaSecurityScheme {
    MetaSecurityScheme {
        ty: "http",
        description: Some(form),
        name: None,
        key_in: None,
        scheme: Some("bearer"),
        bearer_format: None,
        flows: None,
        openid_connect_url: None,
    }
}
