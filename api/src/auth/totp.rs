//! Codes by time (RFC 6238): six digits, every thirty seconds, HMAC-SHA1, which is what authenticator apps know.

use aws_lc_rs::hmac;

const STEP_S: i64 = 30;
/// Steps before and after the present one whose codes are good: clocks differ, and people type slowly.
const LEEWAY: i64 = 1;
/// As RFC 4226 recommends.
pub const SECRET_BYTES: usize = 20;

/// The step whose code this is: one near `now` and after `last_step`, which was used.
pub fn find_step(secret: &[u8], code: &str, now: i64, last_step: i64) -> Option<i64> {
    let present = now.div_euclid(STEP_S);
    let fits = |step: &i64| {
        aws_lc_rs::constant_time::verify_slices_are_equal(code_at(secret, *step).as_bytes(), code.as_bytes()).is_ok()
    };
    (present - LEEWAY..=present + LEEWAY).filter(|step| *step > last_step).find(fits)
}

/// The code of a step.
fn code_at(secret: &[u8], step: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let offset = usize::from(tag.last().copied().unwrap_or_default() & 0xf);
    let word = tag.get(offset..offset + 4).and_then(|bytes| bytes.first_chunk()).copied().unwrap_or_default();
    format!("{:06}", (u32::from_be_bytes(word) & 0x7fff_ffff) % 1_000_000)
}

/// The code of the step at `now` (unix seconds). For tests, which are their own authenticator.
pub fn code(secret: &[u8], now: i64) -> String {
    code_at(secret, now.div_euclid(STEP_S))
}

/// Base32 (RFC 4648) without padding, as authenticator apps want secrets.
pub fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digit = |bits: u32| char::from(ALPHABET[(bits & 31) as usize]);
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut bits, mut held) = (0_u32, 0);
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        held += 8;
        while held >= 5 {
            held -= 5;
            text.push(digit(bits >> held));
        }
        bits &= (1 << held) - 1;
    }
    if held > 0 {
        text.push(digit(bits << (5 - held)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B, the last six of eight digits.
    #[test]
    fn codes_are_those_of_the_specification() {
        let secret = b"12345678901234567890";
        for (now, expected) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code(secret, now), expected);
            assert_eq!(find_step(secret, expected, now, 0), Some(now / 30));
        }
    }

    #[test]
    fn a_code_is_good_for_a_while_and_once() {
        let secret = b"12345678901234567890";
        let now = 1_234_567_890;
        let code = code(secret, now);
        let step = now / 30;
        for (at, found) in [(now - 60, None), (now - 30, Some(step)), (now + 30, Some(step)), (now + 60, None)] {
            assert_eq!(find_step(secret, &code, at, 0), found, "{at}");
        }
        assert_eq!(find_step(secret, &code, now, step), None);
        for bad in ["", "12345", "0059245", "abcdef"] {
            assert_eq!(find_step(secret, bad, now, 0), None, "{bad}");
        }
    }

    /// RFC 4648, section 10.
    #[test]
    fn base32_is_that_of_the_specification() {
        for (bytes, text) in
            [("", ""), ("f", "MY"), ("fo", "MZXQ"), ("foo", "MZXW6"), ("foob", "MZXW6YQ"), ("foobar", "MZXW6YTBOI")]
        {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
    }
}
