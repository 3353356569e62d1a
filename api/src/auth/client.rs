//! Where a request comes from, as it is kept with the session that the request opens or refreshes.

use millwork_shared::auth::Client;
use poem::http::header;
use poem::{FromRequest, Request, RequestBody};

use crate::http::RequestInfo;

const LONGEST_USER_AGENT_CHARS: usize = 200;

/// The [`Client`] of a request.
#[derive(Debug, Clone)]
pub struct From(pub Client);

impl<'a> FromRequest<'a> for From {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        let user_agent = request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let user_agent = user_agent.map(|text| text.chars().take(LONGEST_USER_AGENT_CHARS).collect());
        let address = request.data::<RequestInfo>().and_then(RequestInfo::address).map(|address| address.to_string());
        Ok(Self(Client { address, user_agent }))
    }
}
