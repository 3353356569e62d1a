//! What is fuzzed: each entry takes any bytes, and panics when a promise about the parser behind it does not hold.
//!
//! cargo-fuzz runs them by the targets beside this file, and the ordinary tests by proptest (`api/tests/it/fuzz.rs`).

use std::net::IpAddr;

use chrono::DateTime;
use millwork_api::http::Page;
use millwork_api::http::browsers::CorsOrigins;
use millwork_api::http::content::{Facts, Wanted};
use millwork_api::http::proxies::TrustedProxies;
use millwork_api::http::upload::FileForm;
use millwork_shared::egress::{AllowedNets, Target};
use millwork_shared::schedules::Rhythm;
use millwork_worker::webhooks::verify::{VerifyingKey, verify};
use poem::http::{HeaderMap, HeaderName, HeaderValue, header};
use poem::{Body, Request};
use poem_openapi::{ApiExtractor, ExtractParamOptions};

const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");

pub type Entry = fn(&[u8]);

/// Each entry by its name.
pub const ENTRIES: [(&str, Entry); 8] = [
    ("cursor", cursor),
    ("signature", signature),
    ("cron", cron),
    ("networks", networks),
    ("forwarded", forwarded),
    ("target", target),
    ("range", range),
    ("form", form),
];

fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

/// A query string: what is understood has a limit in its bounds and a cursor that comes out as it went in.
pub fn cursor(data: &[u8]) {
    let Ok(page) = Page::parse(&text(data)) else { return };
    assert!((1..=100).contains(&page.limit()));
    if let Some(id) = page.before() {
        let again = Page::parse(&format!("cursor={}", Page::cursor(id)));
        assert_eq!(again.ok().and_then(|page| page.before()), Some(id));
    }
}

/// Headers and a body, a line each: nothing is genuine that was not signed.
pub fn signature(data: &[u8]) {
    let text = text(data);
    let mut lines = text.lines();
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers: Vec<_> = names.iter().zip(lines.by_ref()).map(|(n, v)| ((*n).to_owned(), v.to_owned())).collect();
    let body = lines.next().unwrap_or_default().as_bytes();
    let now = headers.get(1).and_then(|(_, time)| time.parse().ok()).unwrap_or(0);
    for key in ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &text] {
        if let Ok(key @ VerifyingKey::Symmetric(_)) = VerifyingKey::parse(key) {
            assert!(verify(&key, &headers, body, now).is_err());
        }
    }
}

/// An expression and a zone, a line each: what is understood goes on in time, and ends or finds a next moment.
pub fn cron(data: &[u8]) {
    let text = text(data);
    let (expression, zone) = text.split_once('\n').unwrap_or((&text, "Europe/Berlin"));
    let Ok(rhythm) = Rhythm::parse(expression, zone) else { return };
    let mut moment = DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default();
    for _ in 0..3 {
        let Some(next) = rhythm.next_after(moment) else { return };
        assert!(next > moment, "{expression} in {zone}: {next} after {moment}");
        moment = next;
    }
}

/// Lists of networks and of origins: what is understood is understood again from its own words.
pub fn networks(data: &[u8]) {
    let text = text(data);
    if let Ok(nets) = text.parse::<AllowedNets>() {
        assert_eq!(nets.to_string().parse(), Ok(nets));
    }
    if let Ok(proxies) = text.parse::<TrustedProxies>() {
        let stranger = IpAddr::from([203, 0, 113, 7]);
        let names = HeaderMap::from_iter([(FORWARDED, HeaderValue::from_static("192.0.2.1"))]);
        let expected = if proxies.contain(stranger) { IpAddr::from([192, 0, 2, 1]) } else { stranger };
        assert_eq!(proxies.client(stranger, &names), expected);
    }
    if let Ok(CorsOrigins::Some(origins)) = text.parse() {
        assert!(origins.iter().all(|origin| origin.to_str().is_ok_and(|text| text.starts_with("http"))));
    }
}

/// `X-Forwarded-For`, a line each: who is not trusted is believed nothing, and nobody is found who is not named.
pub fn forwarded(data: &[u8]) {
    let lines = data.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    let headers: HeaderMap = lines.map(|line| (FORWARDED, line)).collect();
    let Ok(proxies) = "10.0.0.0/8,fd00::/8".parse::<TrustedProxies>() else { return };
    let stranger = IpAddr::from([203, 0, 113, 7]);
    assert_eq!(proxies.client(stranger, &headers), stranger);
    let peer = IpAddr::from([10, 0, 0, 1]);
    let client = proxies.client(peer, &headers);
    let named = || {
        let entries = data.split(|byte| matches!(byte, b',' | b'\n')).map(text);
        let bare = |entry: String| entry.trim_matches([' ', '\t', '[', ']']).to_owned();
        let address = |entry: String| {
            let port = entry.trim().parse::<std::net::SocketAddr>().map(|address| address.ip());
            port.or_else(|_| bare(entry).parse()).ok()
        };
        entries.filter_map(address).any(|address: IpAddr| address.to_canonical() == client)
    };
    assert!(client == peer || named(), "{client}");
}

/// A URL to be called: what may be called names no private address, and is understood again.
pub fn target(data: &[u8]) {
    let nets = AllowedNets::default();
    let Ok(target) = Target::parse(&text(data), &nets) else { return };
    let host = target.url().host_str().unwrap_or_default().trim_matches(['[', ']']);
    assert!(host.parse::<IpAddr>().map_or(true, |address| nets.refusal(address).is_none()), "{host}");
    assert_eq!(Target::parse(target.as_str(), &nets).ok().as_ref(), Some(&target));
}

/// A size, and headers of a request for content, a line each: what is to be sent lies within the content.
pub fn range(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let size = lines.next().and_then(|line| text(line).parse().ok()).unwrap_or(10);
    let facts = Facts {
        size,
        sha256: vec![0xab; 32],
        media_type: text(data),
        name: text(data),
        inline: data.len().is_multiple_of(2),
    };
    let names = [header::RANGE, header::IF_RANGE, header::IF_NONE_MATCH];
    let value = |line| HeaderValue::from_bytes(line).ok();
    let headers: HeaderMap = names.into_iter().zip(lines.filter_map(value)).collect();
    let Ok(wanted) = facts.wanted(&headers) else { return };
    let range = facts.range(&wanted);
    assert!(range.start <= range.end && range.end <= size, "{range:?} of {size}");
    assert!(!matches!(wanted, Wanted::Part(_)) || !range.is_empty());
    let disposition = facts.disposition();
    assert!(disposition.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{disposition}");
    assert_eq!(disposition.matches('"').count(), 2, "{disposition}");
}

/// A boundary on a line of its own, and a body: what is read of its file is a piece of the body, and the same bytes as the file of a
/// well-formed form come out as they went in.
pub fn form(data: &[u8]) {
    let (boundary, body) = data.split_at(data.iter().position(|byte| *byte == b'\n').unwrap_or(0));
    let file = read_form(&text(boundary), body.to_vec());
    let Some(file) = file else { return round_trip(data) };
    assert!(file.is_empty() || body.windows(file.len()).any(|piece| piece == file), "{file:?}");
    round_trip(data);
}

fn round_trip(content: &[u8]) {
    const BOUNDARY: &str = "----7e3f0a9c51d24b68";
    if content.windows(BOUNDARY.len()).any(|piece| piece == BOUNDARY.as_bytes()) {
        return;
    }
    let head = format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n");
    let whole = [head.as_bytes(), content, format!("\r\n--{BOUNDARY}--\r\n").as_bytes()].concat();
    assert_eq!(read_form(BOUNDARY, whole).as_deref(), Some(content));
}

/// The content of a form's file, which comes in pieces of a few bytes; None when it is no such form.
fn read_form(boundary: &str, body: Vec<u8>) -> Option<Vec<u8>> {
    let media_type = HeaderValue::try_from(format!("multipart/form-data; boundary={boundary}")).ok()?;
    let pieces: Vec<_> = body.chunks(7).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    let body = Body::from_bytes_stream(futures::stream::iter(pieces));
    let request = Request::builder().header(header::CONTENT_TYPE, media_type).body(body);
    let reading = async {
        let (request, mut body) = request.split();
        let mut form = FileForm::from_request(&request, &mut body, ExtractParamOptions::default()).await.ok()?;
        let mut part = form.file().await.ok()?;
        let mut file = Vec::new();
        while let Some(piece) = part.chunk().await.ok()? {
            file.extend_from_slice(&piece);
        }
        drop(part);
        form.end().await.ok().map(|()| file)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().ok()?;
    runtime.block_on(reading)
}
