//! The words of our own mails.
//!
//! One file a template and language, with the blocks `subject`, `text` and `html`. It is read twice: as `….txt` over the
//! text layout, where values stand as they are, and as `….html` over the HTML layout, where they are escaped.

use anyhow::Context;
use millwork_shared::email::Template;
use millwork_shared::email::jobs::Subject;
use minijinja::{Environment, UndefinedBehavior, Value};
use serde_json::Map;

use super::compose::Words;

/// A language that all templates exist in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locale {
    En,
    De,
}

impl Locale {
    pub const ALL: [Self; 2] = [Self::En, Self::De];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::De => "de",
        }
    }

    /// The language of a BCP 47 tag such as `de-AT`; English for a tag that is unknown or missing.
    pub fn of(tag: Option<&str>) -> Self {
        let language = tag.unwrap_or_default().split(['-', '_']).next().unwrap_or_default();
        Self::ALL.into_iter().find(|l| l.as_str().eq_ignore_ascii_case(language)).unwrap_or(Self::En)
    }
}

/// Exhaustive, so that a template without its words in a language does not compile.
const fn source(template: Template, locale: Locale) -> &'static str {
    match (template, locale) {
        (Template::Welcome, Locale::En) => include_str!("en/welcome.jinja"),
        (Template::Welcome, Locale::De) => include_str!("de/welcome.jinja"),
        (Template::Verification, Locale::En) => include_str!("en/verification.jinja"),
        (Template::Verification, Locale::De) => include_str!("de/verification.jinja"),
        (Template::PasswordReset, Locale::En) => include_str!("en/password_reset.jinja"),
        (Template::PasswordReset, Locale::De) => include_str!("de/password_reset.jinja"),
        (Template::PasswordChanged, Locale::En) => include_str!("en/password_changed.jinja"),
        (Template::PasswordChanged, Locale::De) => include_str!("de/password_changed.jinja"),
        (Template::SessionEnded, Locale::En) => include_str!("en/session_ended.jinja"),
        (Template::SessionEnded, Locale::De) => include_str!("de/session_ended.jinja"),
        (Template::SecondFactorOn, Locale::En) => include_str!("en/second_factor_on.jinja"),
        (Template::SecondFactorOn, Locale::De) => include_str!("de/second_factor_on.jinja"),
        (Template::SecondFactorOff, Locale::En) => include_str!("en/second_factor_off.jinja"),
        (Template::SecondFactorOff, Locale::De) => include_str!("de/second_factor_off.jinja"),
        (Template::IdentityLinked, Locale::En) => include_str!("en/identity_linked.jinja"),
        (Template::IdentityLinked, Locale::De) => include_str!("de/identity_linked.jinja"),
        (Template::IdentityUnlinked, Locale::En) => include_str!("en/identity_unlinked.jinja"),
        (Template::IdentityUnlinked, Locale::De) => include_str!("de/identity_unlinked.jinja"),
        (Template::Invitation, Locale::En) => include_str!("en/invitation.jinja"),
        (Template::Invitation, Locale::De) => include_str!("de/invitation.jinja"),
        (Template::JobsFailed, Locale::En) => include_str!("en/jobs_failed.jinja"),
        (Template::JobsFailed, Locale::De) => include_str!("de/jobs_failed.jinja"),
        (Template::QuotaReached, Locale::En) => include_str!("en/quota_reached.jinja"),
        (Template::QuotaReached, Locale::De) => include_str!("de/quota_reached.jinja"),
        (Template::ExportReady, Locale::En) => include_str!("en/export_ready.jinja"),
        (Template::ExportReady, Locale::De) => include_str!("de/export_ready.jinja"),
        (Template::SignInLocked, Locale::En) => include_str!("en/sign_in_locked.jinja"),
        (Template::SignInLocked, Locale::De) => include_str!("de/sign_in_locked.jinja"),
        (Template::QueueBacklogged, Locale::En) => include_str!("en/queue_backlogged.jinja"),
        (Template::QueueBacklogged, Locale::De) => include_str!("de/queue_backlogged.jinja"),
    }
}

/// All templates, compiled.
#[derive(Debug)]
pub struct Templates(Environment<'static>);

impl Templates {
    /// # Errors
    /// Fails when a template does not compile, which a test rules out.
    pub fn load() -> anyhow::Result<Self> {
        let mut env = Environment::new(); // escapes by the ending of a template's name
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.add_template("layout.txt", include_str!("layout.txt"))?;
        env.add_template("layout.html", include_str!("layout.html"))?;
        env.add_template("button.html", include_str!("button.html"))?;
        for (template, locale) in all() {
            let source = source(template, locale);
            let text = format!("{{% extends 'layout.txt' %}}{source}");
            let html = format!("{{% extends 'layout.html' %}}{{% from 'button.html' import button %}}{source}");
            env.add_template_owned(name(template, locale, "txt"), text)?;
            env.add_template_owned(name(template, locale, "html"), html)?;
        }
        Ok(Self(env))
    }

    /// # Errors
    /// Fails when `variables` are not what the template declares.
    pub fn render(
        &self,
        template: Template,
        locale: Locale,
        variables: &Map<String, serde_json::Value>,
    ) -> anyhow::Result<Words> {
        if let Some((name, fault)) = template.faults(variables).into_iter().next() {
            anyhow::bail!("variable `{name}` {fault}");
        }
        let variables = variables.iter().map(|(name, value)| (name.as_str(), shown(value)));
        let context = Value::from_pairs(variables.chain([("locale", Value::from(locale.as_str()))]));
        let render = |ending| -> Result<_, minijinja::Error> {
            let name = name(template, locale, ending);
            let mut page = self.0.get_template(&name)?.render_captured(context.clone())?;
            let subject = page.with_state_mut(|state| state.render_block("subject"))?;
            Ok((subject, page.into_output()))
        };
        let failed = || format!("the template `{template}` cannot be rendered");
        let (subject, text) = render("txt").with_context(failed)?;
        let (_, html) = render("html").with_context(failed)?;
        let tidy = |text: String| format!("{}\n", text.trim());
        Ok(Words { subject: Subject::lossy(&subject), text: tidy(text), html: Some(tidy(html)) })
    }
}

/// A variable is text or a count, see `Form`.
fn shown(value: &serde_json::Value) -> Value {
    value.as_str().map(Value::from).or_else(|| value.as_u64().map(Value::from)).unwrap_or_default()
}

fn all() -> impl Iterator<Item = (Template, Locale)> {
    Template::ALL.into_iter().flat_map(|template| Locale::ALL.map(|locale| (template, locale)))
}

fn name(template: Template, locale: Locale, ending: &str) -> String {
    format!("{}/{template}.{ending}", locale.as_str())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use millwork_shared::email::templates::Form;
    use serde_json::{Value, json};

    use super::*;

    /// A value for every variable, each with what must not get through unescaped.
    fn values(template: Template) -> Map<String, Value> {
        let value = |form, name: &str| match form {
            Form::Line => json!(format!("<b>{name}</b> & \"Söhne\"")),
            Form::Link => json!(format!("https://example.com/{name}?a=1&b=\"><script>")),
            Form::Count => json!(24),
        };
        template.variables().iter().map(|v| (v.name.to_owned(), value(v.form, v.name))).collect()
    }

    #[test]
    fn every_template_renders_in_every_locale_with_nothing_unescaped() {
        let templates = Templates::load().unwrap();
        for (template, locale) in all() {
            let values = values(template);
            let words = templates.render(template, locale, &values).unwrap();
            let (subject, text, html) = (words.subject.as_str(), &words.text, words.html.as_deref().unwrap());
            let plain = format!("{subject}\n{text}");
            let place = format!("{template} {}\n{plain}\n{html}", locale.as_str());
            for (name, value) in &values {
                let shown = value.as_str().map_or(value.to_string(), str::to_owned);
                assert!(plain.contains(&shown), "{name} in {place}");
            }
            assert!(html.contains("&amp;") && html.contains("&lt;"), "{place}");
            for unescaped in ["<b>", "<script>", "& ", "\"Söhne", "{{", "{%", "undefined"] {
                assert!(!html.contains(unescaped), "{unescaped} in {place}");
            }
            for escaped in ["&amp;", "&lt;", "&gt;", "&quot;", "&#", "{{", "{%", "undefined"] {
                assert!(!plain.contains(escaped), "{escaped} in {place}");
                assert!(!html.contains(&escaped.replace('&', "&amp;")) || !escaped.starts_with('&'), "twice: {place}");
            }
            assert!(html.contains(&format!("<html lang=\"{}\">", locale.as_str())), "{place}");
            assert!(html.matches("<p").count() == html.matches("</p>").count(), "{place}");
        }
    }

    #[test]
    fn a_template_uses_exactly_the_variables_it_declares() {
        let templates = Templates::load().unwrap();
        for (template, locale) in all() {
            let declared: HashSet<String> = template.variables().iter().map(|v| v.name.to_owned()).collect();
            for ending in ["txt", "html"] {
                let used =
                    templates.0.get_template(&name(template, locale, ending)).unwrap().undeclared_variables(false);
                let used: HashSet<String> = used.into_iter().filter(|name| name != "button").collect();
                assert_eq!(used, declared, "{template} {} {ending}", locale.as_str());
            }
        }
    }

    #[test]
    fn a_missing_variable_is_named() {
        let mut values = values(Template::Verification);
        values.remove("url");
        let error = Templates::load().unwrap().render(Template::Verification, Locale::En, &values).unwrap_err();
        assert!(error.to_string().contains("`url`"), "{error}");
    }

    #[test]
    fn the_subject_stays_one_line_of_bounded_length() {
        let templates = Templates::load().unwrap();
        let long = json!({"inviter": "i".repeat(200), "tenant": "t".repeat(200), "url": "https://example.com",
                          "valid_for_hours": 1});
        let words = templates.render(Template::Invitation, Locale::De, long.as_object().unwrap()).unwrap();
        assert_eq!(words.subject.as_str().chars().count(), 255);
    }

    #[test]
    fn a_tag_names_its_language_and_what_is_unknown_is_english() {
        for (tag, locale) in [
            (Some("de"), Locale::De),
            (Some("DE-at"), Locale::De),
            (Some("en-GB"), Locale::En),
            (Some("fr"), Locale::En),
            (Some("deu"), Locale::En),
            (Some(""), Locale::En),
            (None, Locale::En),
        ] {
            assert_eq!(Locale::of(tag), locale, "{tag:?}");
        }
    }
}
