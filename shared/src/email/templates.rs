//! The mails that Millwork words itself, and the variables that each needs.
//!
//! Declared here once: the check at submission and the renderer in the worker both read it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

use super::{is_one_line, to_one_line};

const LONGEST_TEXT_CHARS: usize = 200;
const LONGEST_URL: usize = 2_000;
const LARGEST_COUNT: u64 = 9_999;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Template {
    Welcome,
    Verification,
    PasswordReset,
    PasswordChanged,
    SessionEnded,
    SecondFactorOn,
    SecondFactorOff,
    IdentityLinked,
    IdentityUnlinked,
    Invitation,
    JobsFailed,
    QueueBacklogged,
    SignInLocked,
    QuotaReached,
    ExportReady,
}

impl Template {
    pub const ALL: [Self; 15] = [
        Self::Welcome,
        Self::Verification,
        Self::PasswordReset,
        Self::PasswordChanged,
        Self::SessionEnded,
        Self::SecondFactorOn,
        Self::SecondFactorOff,
        Self::IdentityLinked,
        Self::IdentityUnlinked,
        Self::Invitation,
        Self::JobsFailed,
        Self::QueueBacklogged,
        Self::SignInLocked,
        Self::QuotaReached,
        Self::ExportReady,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Welcome => "welcome",
            Self::Verification => "verification",
            Self::PasswordReset => "password_reset",
            Self::PasswordChanged => "password_changed",
            Self::SessionEnded => "session_ended",
            Self::SecondFactorOn => "second_factor_on",
            Self::SecondFactorOff => "second_factor_off",
            Self::IdentityLinked => "identity_linked",
            Self::IdentityUnlinked => "identity_unlinked",
            Self::Invitation => "invitation",
            Self::JobsFailed => "jobs_failed",
            Self::QueueBacklogged => "queue_backlogged",
            Self::SignInLocked => "sign_in_locked",
            Self::QuotaReached => "quota_reached",
            Self::ExportReady => "export_ready",
        }
    }

    /// All of them are required, and no others are known.
    pub const fn variables(self) -> &'static [Variable] {
        use Form::{Count, Line, Link};
        const fn variable(name: &'static str, form: Form) -> Variable {
            Variable { name, form }
        }
        match self {
            Self::Welcome => const { &[variable("name", Line), variable("tenant", Line), variable("url", Link)] },
            Self::Verification | Self::PasswordReset => {
                const { &[variable("name", Line), variable("url", Link), variable("valid_for_hours", Count)] }
            }
            Self::PasswordChanged
            | Self::SessionEnded
            | Self::SecondFactorOn
            | Self::SecondFactorOff
            | Self::IdentityLinked
            | Self::IdentityUnlinked => const { &[variable("name", Line), variable("url", Link)] },
            Self::Invitation => {
                const {
                    &[
                        variable("inviter", Line),
                        variable("tenant", Line),
                        variable("url", Link),
                        variable("valid_for_hours", Count),
                    ]
                }
            }
            Self::JobsFailed => {
                const {
                    &[
                        variable("tenant", Line),
                        variable("count", Count),
                        variable("kind", Line),
                        variable("queue", Line),
                        variable("job", Line),
                        variable("error", Line),
                    ]
                }
            }
            Self::QuotaReached => {
                const {
                    &[
                        variable("name", Line),
                        variable("tenant", Line),
                        variable("metric", Line),
                        variable("percent", Count),
                        variable("limit", Line),
                    ]
                }
            }
            Self::ExportReady => {
                const {
                    &[
                        variable("name", Line),
                        variable("tenant", Line),
                        variable("what", Line),
                        variable("rows", Line),
                        variable("until", Line),
                    ]
                }
            }
            Self::SignInLocked => {
                const { &[variable("name", Line), variable("count", Count), variable("address", Line)] }
            }
            Self::QueueBacklogged => {
                const {
                    &[
                        variable("tenant", Line),
                        variable("queue", Line),
                        variable("depth", Line),
                        variable("age_s", Line),
                    ]
                }
            }
        }
    }

    /// Every fault of `variables`, as (name, sentence).
    pub fn faults(self, variables: &Map<String, Value>) -> Vec<(String, String)> {
        let declared = self.variables();
        let mut faults: Vec<_> = declared
            .iter()
            .filter_map(|variable| {
                let fault = match variables.get(variable.name) {
                    None => format!("missing; the template `{self}` needs it"),
                    Some(value) => variable.form.fault(value)?,
                };
                Some((variable.name.to_owned(), fault))
            })
            .collect();
        faults.extend(variables.keys().filter(|name| declared.iter().all(|v| v.name != *name)).take(20).map(|name| {
            let known: Vec<_> = declared.iter().map(|v| v.name).collect();
            (name.clone(), format!("the template `{self}` does not use it; it uses {}", known.join(", ")))
        }));
        faults
    }
}

/// Makes text that was not checked when it was stored fit a variable of the form [`Form::Line`].
pub fn line(text: &str) -> String {
    match to_one_line(text, LONGEST_TEXT_CHARS) {
        line if line.is_empty() => "-".to_owned(),
        line => line,
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|t| t.as_str() == s)
            .ok_or_else(|| format!("not a template; the templates are {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// A value that a template shows.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    pub name: &'static str,
    pub form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Text of one line: it may stand in the subject.
    Line,
    /// An http or https address: it becomes a link, where another scheme could run code.
    Link,
    /// A whole number from 1.
    Count,
}

impl Form {
    fn fault(self, value: &Value) -> Option<String> {
        let fits = match self {
            Self::Line => value
                .as_str()
                .is_some_and(|s| !s.trim().is_empty() && is_one_line(s) && s.chars().count() <= LONGEST_TEXT_CHARS),
            Self::Link => value.as_str().is_some_and(|s| {
                s.len() <= LONGEST_URL
                    && is_one_line(s)
                    && Url::parse(s).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            }),
            Self::Count => value.as_u64().is_some_and(|n| (1..=LARGEST_COUNT).contains(&n)),
        };
        let wanted = match self {
            Self::Line => format!("text of one line, 1 to {LONGEST_TEXT_CHARS} characters"),
            Self::Link => format!("an http or https URL of at most {LONGEST_URL} bytes"),
            Self::Count => format!("a whole number from 1 to {LARGEST_COUNT}"),
        };
        (!fits).then(|| format!("must be {wanted}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_the_same_in_text_and_json() {
        for template in Template::ALL {
            assert_eq!(template.as_str().parse(), Ok(template));
            assert_eq!(json!(template), json!(template.as_str()));
        }
        assert!(
            "nope".parse::<Template>().unwrap_err().contains("welcome, verification, password_reset, password_changed")
        );
    }

    #[test]
    fn any_text_can_be_made_a_line() {
        for text in ["", "\n", "Ada\r\nBcc: x", &"x".repeat(300), "\u{2028}a\0"] {
            assert!(Form::Line.fault(&json!(line(text))).is_none(), "{text:?}");
        }
    }

    #[test]
    fn a_form_takes_what_is_safe_where_it_is_shown() {
        for (form, good, bad) in [
            (
                Form::Line,
                vec![json!("Ada"), json!("x".repeat(200))],
                vec![json!(""), json!(" "), json!("a\r\nBcc: b@c"), json!("x".repeat(201)), json!(1), json!(null)],
            ),
            (
                Form::Link,
                vec![json!("https://example.com/a?b=c"), json!("http://127.0.0.1:8080/x")],
                vec![
                    json!("javascript:alert(1)"),
                    json!("data:text/html,x"),
                    json!("/verify"),
                    json!("https://e.com/\nx"),
                    json!(format!("https://e.com/{}", "x".repeat(2000))),
                ],
            ),
            (
                Form::Count,
                vec![json!(1), json!(9999)],
                vec![json!(0), json!(-1), json!(1.5), json!("24"), json!(10000)],
            ),
        ] {
            assert!(good.iter().all(|v| form.fault(v).is_none()), "{form:?}");
            for value in bad {
                assert!(form.fault(&value).is_some(), "{form:?} {value}");
            }
        }
    }
}
