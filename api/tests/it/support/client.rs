//! Requests and their answers.

use std::sync::LazyLock;

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

static HTTP: LazyLock<reqwest::Client> = LazyLock::new(|| {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    #[expect(clippy::disallowed_methods, reason = "talks to this process alone")]
    let builder = reqwest::Client::builder();
    // Each test has a runtime of its own, which a pooled connection would not survive.
    builder.no_proxy().pool_max_idle_per_host(0).timeout(std::time::Duration::from_secs(30)).build().unwrap()
});

/// Someone who talks to the API. Paths are below `/api/v1` unless they say otherwise by `//`: `//health`.
#[derive(Clone)]
pub struct Client {
    url: String,
    pub token: Option<String>,
}

impl Client {
    pub fn new(url: &str, token: Option<String>) -> Self {
        Self { url: url.to_owned(), token }
    }

    /// A request to be completed: headers, any body.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = match path.strip_prefix("//") {
            Some(path) => format!("{}/{path}", self.url),
            None => format!("{}/api/v1{path}", self.url),
        };
        let request = HTTP.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// A request to wherever.
    pub fn request_url(&self, method: Method, url: &str) -> RequestBuilder {
        HTTP.request(method, url)
    }

    /// The id of the person who is signed in, or made the key.
    pub async fn user(&self) -> String {
        self.get("/auth/me").await.expect(200)["data"]["user"]["id"].as_str().unwrap().to_owned()
    }

    pub async fn get(&self, path: &str) -> Reply {
        Reply::of(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        Reply::of(self.request(Method::POST, path).json(&body)).await
    }

    /// A POST without a body.
    pub async fn post_empty(&self, path: &str) -> Reply {
        Reply::of(self.request(Method::POST, path)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Reply {
        Reply::of(self.request(Method::PATCH, path).json(&body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Reply {
        Reply::of(self.request(Method::PUT, path).json(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        Reply::of(self.request(Method::DELETE, path)).await
    }

    /// A form with one file.
    pub fn form(&self, method: Method, path: &str, name: &str, media_type: &str, content: &[u8]) -> RequestBuilder {
        let (head, tail) = form_around(name, media_type);
        let body = [head.as_bytes(), content, tail.as_bytes()].concat();
        self.request(method, path).header("content-type", FORM).body(body)
    }

    /// Uploads a file.
    pub async fn upload(&self, name: &str, media_type: &str, content: &[u8]) -> Reply {
        Reply::of(self.form(Method::POST, "/files/upload", name, media_type, content)).await
    }

    /// A POST with an `Idempotency-Key`.
    pub async fn post_once(&self, path: &str, key: &str, body: Value) -> Reply {
        Reply::of(self.request(Method::POST, path).header("idempotency-key", key).json(&body)).await
    }
}

/// The `Content-Type` of a form.
pub const FORM: &str = "multipart/form-data; boundary=0b";

/// What a form with one file has before and after its content.
pub fn form_around(name: &str, media_type: &str) -> (String, String) {
    let head = format!(
        "--0b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: {media_type}\r\n\r\n"
    );
    (head, "\r\n--0b--\r\n".to_owned())
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    pub async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: response.bytes().await.unwrap().to_vec() }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The JSON of an answer of this status, null when it has no body.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        match self.body.as_slice() {
            [] => Value::Null,
            body => serde_json::from_slice(body).unwrap(),
        }
    }

    /// The problem document of an answer of this status and code, complete in every member.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        let problem = self.expect(status);
        assert_eq!(self.header("content-type"), "application/problem+json", "{problem}");
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["type"], format!("urn:problem-type:millwork:{code}"), "{problem}");
        assert_eq!(problem["request_id"], self.header("x-request-id"), "{problem}");
        for member in ["title", "detail", "request_id"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member} in {problem}");
        }
        problem
    }
}
