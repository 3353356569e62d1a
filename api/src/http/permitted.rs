//! What a route needs, said in its signature.

use std::marker::PhantomData;
use std::ops::Deref;

use millwork_shared::infra::ids::{ActorId, TenantId};
use millwork_shared::tenants::{Needed, Permission};
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaParamIn, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use super::caller::Caller;
use super::error::{ApiError, Result};

/// Names the extractors in the raw document; [`super::document`] puts `x-permission` in their place.
pub(super) const MARKER: &str = "x-millwork-permission";

/// A caller that holds the permission `P`, one of [`to`](millwork_shared::tenants::to). Whoever does not is refused
/// before anything else of the request is read.
///
/// A route that takes a mere [`Caller`] is open to every member and key of the tenant.
#[derive(Debug)]
pub struct Permitted<P> {
    caller: Caller,
    of: PhantomData<P>,
}

impl<P> Deref for Permitted<P> {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

/// A caller that holds the permission `P`, or holds `Own` and made what they ask for: that is for
/// [`or_maker`](Self::or_maker) to find out, the only way to the [`Caller`].
#[derive(Debug)]
pub struct PermittedOrOwner<P, Own> {
    caller: Caller,
    of: PhantomData<(P, Own)>,
}

impl<P: Needed, Own> PermittedOrOwner<P, Own> {
    pub fn tenant(&self) -> TenantId {
        self.caller.tenant
    }

    /// Lets through who holds the permission; for anyone else looks who the maker is. Of what is absent nobody is.
    ///
    /// # Errors
    /// 403, naming the permission.
    pub async fn or_maker(
        &self,
        maker: impl Future<Output = millwork_shared::Result<Option<ActorId>>>,
    ) -> Result<&Caller> {
        if !self.caller.permissions.contains(P::PERMISSION) && maker.await? != Some(self.caller.actor()) {
            return Err(ApiError::forbidden(P::PERMISSION));
        }
        Ok(&self.caller)
    }
}

/// The marker of a route that needs `permission`, or else `own` and to have made what is asked for.
fn marker(permission: Permission, own: Option<Permission>) -> Option<MetaSchemaRef> {
    Some(MetaSchemaRef::Inline(Box::new(MetaSchema {
        description: Some(permission.as_str()),
        title: own.map(|own| own.as_str().to_owned()),
        ..MetaSchema::new_with_format("string", MARKER)
    })))
}

impl<'a, P: Needed> ApiExtractor<'a> for Permitted<P> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme, ApiExtractorType::Parameter];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        Caller::register(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        Caller::security_schemes()
    }

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Header)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        marker(P::PERMISSION, None)
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let caller = Caller::of(request).await?;
        caller.require(P::PERMISSION)?;
        Ok(Self { caller, of: PhantomData })
    }
}

impl<'a, P: Needed, Own: Needed> ApiExtractor<'a> for PermittedOrOwner<P, Own> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme, ApiExtractorType::Parameter];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        Caller::register(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        Caller::security_schemes()
    }

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Header)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        marker(P::PERMISSION, Some(Own::PERMISSION))
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let caller = Caller::of(request).await?;
        if !caller.permissions.contains(Own::PERMISSION) {
            caller.require(P::PERMISSION)?;
        }
        Ok(Self { caller, of: PhantomData })
    }
}
