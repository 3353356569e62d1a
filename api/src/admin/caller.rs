//! Staff that call, taken from the `Authorization` header.

use std::ops::Deref;

use millwork_shared::audit::{self, Actor};
use millwork_shared::infra::crypto::token_hash;
use millwork_shared::staff::{Staff, queries};
use poem::http::header;
use poem::{Request, RequestBody};
use poem_openapi::registry::Registry;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use crate::App;
use crate::http::{ApiError, Result, bearer};

/// What a token of staff begins with. Tokens of tenants' people are JWTs, and their keys begin otherwise: neither is
/// ever looked up here, nor these there.
pub const TOKEN_PREFIX: &str = "mws_";
const MAX_TOKEN_BYTES: usize = 200;
const SCHEME: &str = "staff";

/// Somebody of the staff who has a session.
#[derive(Debug, Clone)]
pub struct StaffCaller(Staff);

impl Deref for StaffCaller {
    type Target = Staff;

    fn deref(&self) -> &Staff {
        &self.0
    }
}

impl StaffCaller {
    async fn of(request: &Request) -> Result<Self> {
        let missing = || {
            let detail = "send `Authorization: Bearer` with a token from POST /admin/auth/login";
            ApiError::unauthenticated("unauthenticated", detail)
        };
        let header = request.headers().get(header::AUTHORIZATION).ok_or_else(missing)?;
        let (scheme, token) = header.to_str().ok().and_then(|h| h.split_once(' ')).ok_or_else(missing)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(missing());
        }
        let refused = || {
            ApiError::unauthenticated("token_invalid", "the token is none of the staff's, has expired, or was revoked")
        };
        let token = token.trim();
        if !token.starts_with(TOKEN_PREFIX) || token.len() > MAX_TOKEN_BYTES {
            return Err(refused());
        }
        let app = App::of(request)?;
        let mut tx = app.db.identity().await?;
        let staff = queries::authenticate(&mut tx, token_hash(token)).await?;
        tx.commit().await?;
        let staff = staff.ok_or_else(refused)?;
        audit::act_as(Actor::Staff(staff.id()));
        Ok(Self(staff))
    }
}

impl<'a> ApiExtractor<'a> for StaffCaller {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        registry.create_security_scheme(SCHEME, bearer("A token of the platform's staff, from /admin/auth/login"));
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
