//! Which passwords are refused: those that are tried first by whoever guesses. Length counts, composition does not
//! (NIST SP 800-63B).

use std::sync::LazyLock;

use crate::http::types::Password;
use crate::http::{ApiError, Fault, Result};

/// Sorted; lower case. Whole passwords of twelve characters and more, and what is left of shorter ones without the digits
/// and signs around them. From the list of zxcvbn (Dropbox, Inc.; in Rust by Joshua Holmer), MIT licence.
static COMMON: LazyLock<Vec<&str>> = LazyLock::new(|| include_str!("common_passwords.txt").lines().collect());

/// Characters around a common password that do not make it another one: `Summer2024!!`.
const LONGEST_TRIM: usize = 6;

/// # Errors
/// 422 with the [`fault`].
pub fn check(pointer: &str, password: &Password, names: &[&str]) -> Result<()> {
    fault(pointer, password.0.expose(), names).map_or(Ok(()), |fault| Err(ApiError::invalid(vec![fault])))
}

/// What is wrong with `password` at `pointer` in the body, if anything. `names` are of the person: their address, name,
/// tenant. Length alone is the schema's to check.
pub fn fault(pointer: &str, password: &str, names: &[&str]) -> Option<Fault> {
    let why = if is_common(password) {
        "is among those that are guessed first; choose another, such as four random words"
    } else if is_pattern(password) {
        "repeats itself or counts; choose one without a pattern, such as four random words"
    } else if is_name(password, names) {
        "is little more than a name or address that is known; choose another, such as four random words"
    } else {
        return None;
    };
    Some(Fault::new(pointer, "password_weak", why))
}

fn is_common(password: &str) -> bool {
    let lower = password.to_lowercase();
    let known = |text: &str| COMMON.binary_search(&text).is_ok();
    known(&lower) || core(&lower).is_some_and(known) || core(&plain(&lower)).is_some_and(known)
}

/// The text without digits and signs at its ends, if those are few.
fn core(text: &str) -> Option<&str> {
    let core = text.trim_matches(|c: char| !c.is_alphabetic());
    (!core.is_empty() && text.chars().count() - core.chars().count() <= LONGEST_TRIM).then_some(core)
}

/// Letters for the signs that often stand in for them.
fn plain(text: &str) -> String {
    let letter = |c| match c {
        '0' => 'o',
        '1' | '!' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        c => c,
    };
    let end = text.trim_end_matches(|c: char| !c.is_alphabetic()).len();
    text[..end].chars().map(letter).chain(text[end..].chars()).collect()
}

/// Made of one unit again and again, or mostly of characters that follow each other: `abcabcabcabc`, `123456789012`.
fn is_pattern(password: &str) -> bool {
    let chars: Vec<char> = password.chars().flat_map(char::to_lowercase).collect();
    let repeats = |unit: usize| chars.iter().zip(&chars[unit..]).all(|(a, b)| a == b);
    if (1..=chars.len() / 2).any(repeats) {
        return true;
    }
    let steps = |by: i64| chars.windows(2).filter(|pair| (pair[1] as i64 - pair[0] as i64) == by).count();
    [-1, 0, 1].into_iter().any(|by| steps(by) * 4 >= chars.len() * 3)
}

fn is_name(password: &str, names: &[&str]) -> bool {
    let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    let password: String = letters(password);
    let of_address = names.iter().filter_map(|name| name.split_once('@')).flat_map(|(local, domain)| [local, domain]);
    let mut known = names.iter().copied().chain(of_address).chain(["millwork"]).map(letters);
    known.any(|name: String| {
        name.chars().count() >= 4
            && password.contains(&name)
            && password.chars().count() - name.chars().count() <= LONGEST_TRIM
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_whole() {
        assert!(COMMON.is_sorted() && COMMON.len() > 10_000);
        assert!(COMMON.iter().all(|word| word.len() >= 6 && *word == word.to_lowercase()));
    }

    #[test]
    fn what_is_guessed_first_is_refused() {
        let names = ["ann.archer@acme.example", "Ann Archer", "Acme Ltd"];
        for weak in [
            "password1234",
            "Password123!",
            "P@ssw0rd2024",
            "123!sunshine!",
            "qwertyuiop12",
            "gfhjkmgfhjkm",
            "aaaaaaaaaaaa",
            "abcabcabcabc",
            "xyzzyxyzzyxyzzy",
            "123456789012",
            "abcdefghijklm",
            "98765432109",
            "ann.archer2024",
            "AnnArcher123!",
            "acme.example1!",
            "millwork2026",
        ] {
            assert_eq!(fault("/password", weak, &names).map(|f| f.code).as_deref(), Some("password_weak"), "{weak}");
        }
        for good in [
            "correct horse battery",
            "correct horse battery staple",
            "elephant-9-karaoke",
            "ann likes quiet mornings",
            "Tr0ub4dor&3-and-more",
            "5f3a9c0e77b1",
            "зелёная дверь в сад",
        ] {
            assert_eq!(fault("/password", good, &names), None, "{good}");
        }
    }
}
