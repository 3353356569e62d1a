//! Which headers a client may have us send.

/// Headers of one request or endpoint at most.
pub const HEADERS_MAX: usize = 50;
/// Bytes of them, names and values together.
pub const HEADERS_MAX_BYTES: usize = 16 * 1024;

/// What frames the message or belongs to one connection (RFC 9110, 7.6.1), or is ours to say.
const RESERVED: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-authorization",
];

/// Why a header must not be sent; None when it may. Names are compared without regard to case.
pub fn header_fault(name: &str, value: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(is_token) {
        return Some("a header's name has 1 to 128 letters, digits and !#$%&'*+-.^_`|~".into());
    }
    if RESERVED.contains(&lower.as_str()) || lower.starts_with("webhook-") {
        return Some(format!("the header {lower} is set by Millwork"));
    }
    if value.len() > 4096 || !value.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b)) {
        return Some("a header's value has at most 4096 printable ASCII characters".into());
    }
    None
}

/// Every fault of a set of headers: the name it is about (none for the set as a whole), and a sentence.
pub fn headers_faults<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<(Option<&'a str>, String)> {
    let (mut faults, mut seen, mut bytes) = (Vec::new(), Vec::<String>::new(), 0);
    for (name, value) in headers {
        bytes += name.len() + value.len();
        let lower = name.to_ascii_lowercase();
        if let Some(fault) = header_fault(name, value) {
            faults.push((Some(name), fault));
        } else if seen.contains(&lower) {
            faults.push((Some(name), format!("the header {lower} is given twice")));
        }
        seen.push(lower);
        if seen.len() > HEADERS_MAX {
            faults.push((None, format!("at most {HEADERS_MAX} headers are allowed")));
            break;
        }
    }
    if bytes > HEADERS_MAX_BYTES {
        faults
            .push((None, format!("the headers have {bytes} bytes together; at most {HEADERS_MAX_BYTES} are allowed")));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_headers_pass_and_those_that_frame_a_message_do_not() {
        for name in ["Authorization", "x-api-key", "Content-Type", "X_Custom", "accept"] {
            assert_eq!(header_fault(name, "some value"), None, "{name}");
        }
        for name in [
            "Host",
            "Content-Length",
            "connection",
            "Transfer-Encoding",
            "TE",
            "Upgrade",
            "Keep-Alive",
            "Trailer",
            "Proxy-Connection",
            "Proxy-Authorization",
            "Expect",
            "webhook-id",
            "Webhook-Signature",
            "webhook-anything",
        ] {
            assert!(header_fault(name, "x").is_some_and(|fault| fault.contains("set by Millwork")), "{name}");
        }
    }

    #[test]
    fn what_would_break_a_message_is_refused() {
        for name in ["", "a b", "a:b", "é", "a\r\nx: y", "x\0"] {
            assert!(header_fault(name, "x").is_some(), "{name:?}");
        }
        for value in ["a\r\nx: y", "a\nb", "\0", "é", &"v".repeat(4097)] {
            assert!(header_fault("x-a", value).is_some(), "{value:?}");
        }
    }

    #[test]
    fn a_set_is_bounded_and_names_a_header_once() {
        assert_eq!(headers_faults([("X-A", "1"), ("x-a", "2")])[0].0, Some("x-a"));
        let names: Vec<_> = (0..51).map(|n| format!("x-{n}")).collect();
        assert_eq!(headers_faults(names.iter().map(|n| (n.as_str(), ""))).len(), 1);
        let long = "v".repeat(4096);
        assert_eq!(headers_faults(names[..4].iter().map(|n| (n.as_str(), long.as_str()))).len(), 1);
    }
}
