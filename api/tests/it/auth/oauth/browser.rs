//! A browser, as far as signing in by another provider needs one: cookies, and a person who clicks.

use std::collections::HashMap;

use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder, Url, header};

use crate::support::Reply;

#[derive(Clone)]
pub struct Browser {
    http: reqwest::Client,
    /// By the place they are for and their name.
    cookies: HashMap<(String, String), String>,
    /// Where the API is for people, and where it listens.
    api: (String, String),
}

impl Browser {
    pub fn new(public_url: &str, url: &str) -> Self {
        #[expect(clippy::disallowed_methods, reason = "talks to this machine alone")]
        let http = reqwest::Client::builder().no_proxy().redirect(Policy::none()).pool_max_idle_per_host(0);
        Self { http: http.build().unwrap(), cookies: HashMap::new(), api: (public_url.to_owned(), url.to_owned()) }
    }

    /// Another person's browser.
    pub fn another(&self) -> Self {
        Self::new(&self.api.0, &self.api.1)
    }

    pub async fn get(&mut self, url: &str) -> Reply {
        self.send(Method::GET, url, |request| request).await
    }

    async fn submit(&mut self, url: &str, form: &[(&str, &str)]) -> Reply {
        let mut text = url::form_urlencoded::Serializer::new(String::new());
        let text = text.extend_pairs(form).finish();
        let typed = |request: RequestBuilder| request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(Method::POST, url, |request| typed(request).body(text)).await
    }

    async fn send(&mut self, method: Method, url: &str, with: impl FnOnce(RequestBuilder) -> RequestBuilder) -> Reply {
        let place = Url::parse(url).unwrap().origin().ascii_serialization();
        let listens = url.strip_prefix(&self.api.0).map(|path| format!("{}{path}", self.api.1));
        let cookies: Vec<_> = self.cookies.iter().filter(|((of, _), _)| *of == place).collect();
        let cookies: Vec<_> = cookies.into_iter().map(|((_, name), value)| format!("{name}={value}")).collect();
        let request = self.http.request(method, listens.as_deref().unwrap_or(url));
        let reply = Reply::of(with(request).header(header::COOKIE, cookies.join("; "))).await;
        for line in reply.headers.get_all(header::SET_COOKIE) {
            let line = line.to_str().unwrap();
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            let key = (place.clone(), name.to_owned());
            if line.contains("Max-Age=0") || line.contains("1970") {
                self.cookies.remove(&key);
            } else {
                self.cookies.insert(key, value.to_owned());
            }
        }
        reply
    }

    /// Cookies of the API.
    pub fn carries(&self) -> Vec<String> {
        let place = Url::parse(&self.api.0).unwrap().origin().ascii_serialization();
        self.cookies.keys().filter(|(of, _)| *of == place).map(|(_, name)| name.clone()).collect()
    }

    /// Goes to a provider's page, signs in there as `login` and agrees: where that leads back to.
    pub async fn agree(&mut self, address: &str, login: &str) -> String {
        self.walk(address, Some(login)).await
    }

    /// The same for a person who thinks better of it.
    pub async fn decline(&mut self, address: &str) -> String {
        self.walk(address, None).await
    }

    async fn walk(&mut self, address: &str, login: Option<&str>) -> String {
        let home = Url::parse(address).unwrap();
        let mut at = address.to_owned();
        for _ in 0..12 {
            let mut reply = self.get(&at).await;
            if reply.status == 200 {
                let asks_who = reply.text().contains("value=\"login\"");
                reply = match login {
                    None => self.get(&format!("{at}/abort")).await,
                    Some(login) if asks_who => {
                        self.submit(&at, &[("prompt", "login"), ("login", login), ("password", "x")]).await
                    }
                    Some(_) => self.submit(&at, &[("prompt", "consent")]).await,
                };
            }
            assert!((300..400).contains(&reply.status), "{at} answered {} {}", reply.status, reply.text());
            at = home.join(reply.header("location")).unwrap().into();
            if at.starts_with(&self.api.0) {
                return at;
            }
        }
        panic!("{address} leads nowhere");
    }
}

/// `url` with a parameter of its query put in place of another value, or taken away.
pub fn changed(url: &str, name: &str, value: Option<&str>) -> String {
    let mut url = Url::parse(url).unwrap();
    let mut pairs: Vec<(String, String)> = url.query_pairs().into_owned().filter(|(known, _)| known != name).collect();
    pairs.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    url.query_pairs_mut().clear().extend_pairs(pairs);
    url.into()
}

/// A parameter of a URL's query.
pub fn parameter(url: &str, name: &str) -> Option<String> {
    Url::parse(url).unwrap().query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
}
