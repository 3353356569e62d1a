//! `/docs`: the reference as a page, which may run its own scripts and no others.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use poem::endpoint::make_sync;
use poem::http::{HeaderValue, header};
use poem::web::Html;
use poem::{Endpoint, IntoResponse, Response};
use sha2::{Digest, Sha256};
use url::Url;

/// Of what is the same for a whole release.
pub const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// Serves `page`; its scripts are named by their hashes. `public_url` is where it calls the API.
pub fn page(page: String, public_url: &str) -> impl Endpoint<Output = Response> + use<> {
    let page = page.replace('\r', ""); // browsers hash what is left without them
    let policy = HeaderValue::try_from(policy(&page, public_url)).ok();
    make_sync(move |_| {
        let mut response = Html(page.clone()).into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, CACHE);
        if let Some(policy) = &policy {
            response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy.clone());
        }
        response
    })
}

fn policy(page: &str, public_url: &str) -> String {
    let scripts: Vec<String> = scripts(page).map(|script| format!(" 'sha256-{}'", hash(script))).collect();
    let api = Url::parse(public_url).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
    format!(
        "default-src 'none'; script-src{}; style-src 'unsafe-inline'; img-src 'self' data:; font-src data:; \
         connect-src 'self' {api}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        scripts.concat()
    )
}

fn hash(script: &str) -> String {
    STANDARD.encode(Sha256::digest(script.as_bytes()))
}

/// The text of each `<script>` of a page.
fn scripts(mut page: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (_, rest) = page.split_once("<script")?;
        let (_, rest) = rest.split_once('>')?;
        let (script, rest) = rest.split_once("</script>")?;
        page = rest;
        Some(script)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_may_run_its_own_scripts_alone() {
        let page = "<html><script charset=\"x\">let a = '<script>';</script><p><script>alert(1)</script>";
        let policy = policy(page, "https://m.example/base");
        let allowed = ["let a = '<script>';", "alert(1)"].map(|script| format!(" 'sha256-{}'", hash(script))).concat();
        assert!(policy.contains(&format!("script-src{allowed};")), "{policy}");
        assert!(
            policy.contains("connect-src 'self' https://m.example;") && !policy.contains("unsafe-eval"),
            "{policy}"
        );
    }
}
