//! Wraps the endpoints of an API, so that what poem-openapi refuses is a problem document with the right details.

use std::collections::HashMap;
use std::sync::Arc;

use poem::endpoint::BoxEndpoint;
use poem::http::{HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, EndpointExt, Request, Response, Result};
use poem_openapi::OpenApi;
use poem_openapi::registry::{MetaApi, Registry};

use super::error::ApiError;
use super::problem::{self, Problem};
use super::request::RequestInfo;
use crate::App;
use crate::limits::{Cost, settings};
use crate::metrics::{Route, Seen};

/// The routes of `T`, each answering in problem documents, with a 405 (and `Allow`) for every other method.
pub struct Guarded<T>(pub T);

impl<T: OpenApi> OpenApi for Guarded<T> {
    fn meta() -> Vec<MetaApi> {
        T::meta()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn add_routes(self, table: &mut HashMap<String, HashMap<Method, BoxEndpoint<'static>>>) {
        let mut routes = HashMap::new();
        self.0.add_routes(&mut routes);
        let documented: HashMap<String, String> =
            T::meta().into_iter().flat_map(|api| api.paths).map(|path| (nameless(&path.path), path.path)).collect();
        for (path, methods) in routes {
            let pattern = documented.get(&nameless(&path)).unwrap_or(&path);
            let methods = complete(&format!("/api/v1{pattern}"), methods);
            table.insert(path, methods);
        }
    }
}

/// A path without the names of its parameters, which the table of routes does not know.
fn nameless(path: &str) -> String {
    path.split('/').map(|part| if part.starts_with([':', '{']) { "{}" } else { part }).collect::<Vec<_>>().join("/")
}

/// `pattern` is the route's address, by which it is counted.
fn complete(pattern: &str, methods: HashMap<Method, BoxEndpoint<'static>>) -> HashMap<Method, BoxEndpoint<'static>> {
    let known: Vec<Method> = methods.keys().cloned().collect();
    let explained = |(method, inner): (Method, _)| {
        let route = Arc::new(Route::new(method.as_str(), pattern));
        let cost = settings::cost(method.as_str(), pattern);
        let by_address = settings::is_by_address(method.as_str(), pattern);
        (method, Explained { route, cost, by_address, inner }.boxed())
    };
    let mut complete: HashMap<Method, BoxEndpoint<'static>> = methods.into_iter().map(explained).collect();
    for method in METHODS {
        let served_by_get = method == Method::HEAD && known.contains(&Method::GET);
        if !served_by_get && !complete.contains_key(&method) {
            complete.insert(method, NotAllowed::except(&known).boxed());
        }
    }
    complete
}

/// Every method of HTTP itself and PATCH.
pub(super) const METHODS: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
    Method::TRACE,
    Method::CONNECT,
];

/// One endpoint outside of the API, for GET and HEAD.
pub fn get_only(pattern: &str, endpoint: impl Endpoint<Output = Response> + 'static) -> poem::RouteMethod {
    let methods = HashMap::from([(Method::GET, endpoint.boxed())]);
    complete(pattern, methods)
        .into_iter()
        .fold(poem::RouteMethod::new(), |route, (method, ep)| route.method(method, ep))
}

/// Gives the framework's errors their problem while their type is still known, and the request its route.
struct Explained<E> {
    route: Arc<Route>,
    /// In plain requests, for the limits.
    cost: u32,
    /// Whether requests are counted by where they come from.
    by_address: bool,
    inner: E,
}

impl<E: Endpoint<Output = Response>> Endpoint for Explained<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        Seen::note(&request, &self.route);
        if self.cost != 1 {
            request.set_data(Cost(self.cost));
        }
        if self.by_address
            && let Some(address) = request.data::<RequestInfo>().and_then(RequestInfo::address)
        {
            App::of(&request)?.limits.admit_address(address).await?;
        }
        let result = self.inner.call(request).await;
        match result {
            Err(error) if error.data::<Problem>().is_none() && !error.is_from_response() => {
                Err(problem::of_framework(&error).into())
            }
            other => other,
        }
    }
}

struct NotAllowed(HeaderValue);

impl NotAllowed {
    fn except(known: &[Method]) -> Self {
        let mut allowed: Vec<&str> = known.iter().map(Method::as_str).collect();
        if known.contains(&Method::GET) && !known.contains(&Method::HEAD) {
            allowed.push("HEAD");
        }
        allowed.sort_unstable();
        Self(HeaderValue::from_str(&allowed.join(", ")).unwrap_or(HeaderValue::from_static("")))
    }
}

impl Endpoint for NotAllowed {
    type Output = Response;

    async fn call(&self, _request: Request) -> Result<Response> {
        let allowed = self.0.to_str().unwrap_or_default();
        let detail = format!("this method is not possible here; {allowed} is");
        let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
        Err(error.with_header(header::ALLOW, self.0.clone()).into())
    }
}
