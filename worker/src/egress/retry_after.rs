//! What a remote party asks for by `Retry-After` (RFC 9110, 10.2.3).

use std::time::Duration;

use chrono::{DateTime, Utc};
use millwork_shared::jobs::retry::RETRY_AFTER_LONGEST;

use super::Answer;

/// How long to wait before the next call, at least a second and at most a day; None when the answer does not say.
pub fn retry_after(answer: &Answer, now: DateTime<Utc>) -> Option<Duration> {
    let text = answer.header("retry-after")?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => RETRY_AFTER_LONGEST,
        Err(_) => (DateTime::parse_from_rfc2822(text).ok()?.to_utc() - now).to_std().unwrap_or_default(),
    };
    Some(wait.clamp(Duration::from_secs(1), RETRY_AFTER_LONGEST))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn seconds_and_dates_are_understood_and_bounded() {
        let now: DateTime<Utc> = "2026-11-21T09:00:00Z".parse().unwrap();
        for (text, seconds) in [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("0", Some(1)),
            ("86401", Some(86_400)),
            ("99999999999999999999999", Some(86_400)),
            ("Sat, 21 Nov 2026 09:02:00 GMT", Some(120)),
            ("Sat, 21 Nov 2026 08:00:00 GMT", Some(1)),
            ("Sat, 21 Nov 2027 09:00:00 GMT", None), // a Sunday
            ("Sun, 21 Nov 2027 09:00:00 GMT", Some(86_400)),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            let headers = vec![("retry-after".to_owned(), text.to_owned())];
            let answer = Answer { status: 503, headers, body: Bytes::new(), truncated: false };
            assert_eq!(retry_after(&answer, now), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
