//! The variables Millwork's processes get, and `.dev/env` that keeps them for one's own use.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::secret;
use crate::services::{Services, ports};

#[derive(Debug)]
pub struct Environment {
    variables: Vec<(String, String)>,
    /// Base of everything the API serves.
    pub api_url: String,
    pub mail_folder: PathBuf,
    pub file: PathBuf,
}

impl Environment {
    /// Chooses free ports, makes the mail folder, and writes the variables to `env` in `home`. The key of secrets at rest
    /// is made once and kept there.
    pub fn prepare(home: &Path, services: &Services) -> Result<Self> {
        let file = home.join("env");
        let mail_folder = home.join("mail");
        fs::create_dir_all(&mail_folder).with_context(|| format!("cannot create {}", mail_folder.display()))?;
        let [api, worker, scheduler] = addresses()?;
        let api_url = format!("http://{api}");
        let variables = [
            ("DATABASE_URL", services.postgres.url()),
            ("REDIS_URL", services.redis.url()),
            ("MASTER_KEYS", kept_master_keys(&file)?),
            ("API_ADDR", api),
            ("WORKER_ADDR", worker),
            ("SCHEDULER_ADDR", scheduler),
            ("PUBLIC_URL", api_url.clone()),
            ("MAIL_URL", format!("file://{}", url_path(&mail_folder))),
            ("MAIL_FROM", "millwork@example.com".to_owned()),
            ("STORAGE_URL", format!("file://{}", url_path(&home.join("objects")))),
            ("EGRESS_ALLOW_CIDRS", "127.0.0.0/8".to_owned()), // where the demo's receiver listens
            ("LOG_FORMAT", "pretty".to_owned()),
            ("RUST_LIB_BACKTRACE", "0".to_owned()), // errors in a sentence; panics keep their backtrace
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
        secret::write_private(&file, &render(&variables))?;
        Ok(Self { variables, api_url, mail_folder, file })
    }

    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Where the Procfile's process `name` answers `/health/ready`, if it listens.
    pub fn health_url(&self, name: &str) -> Option<String> {
        let variable = format!("{}_ADDR", name.to_ascii_uppercase());
        self.variables()
            .find(|(found, _)| *found == variable)
            .map(|(_, address)| format!("http://{address}/health/ready"))
    }
}

/// The usual ports if they are free.
fn addresses() -> Result<[String; 3]> {
    let mut taken = Vec::new();
    for usual in [8080, 8081, 8082] {
        let mut port = ports::this_or_free(usual)?;
        while taken.contains(&port) {
            port = ports::free()?;
        }
        taken.push(port);
    }
    Ok([0, 1, 2].map(|index| format!("127.0.0.1:{}", taken[index])))
}

fn kept_master_keys(file: &Path) -> Result<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    match text.lines().find_map(|line| line.strip_prefix("MASTER_KEYS=")) {
        Some(kept) => Ok(kept.trim_matches('\'').to_owned()),
        None => Ok(format!("k1:{}", STANDARD.encode(secret::random::<32>()?))),
    }
}

/// A file for `set -a; . .dev/env; set +a`.
fn render(variables: &[(String, String)]) -> String {
    let lines = variables.iter().map(|(name, value)| format!("{name}='{value}'\n"));
    "# Written by `cargo dev up` at every start; MASTER_KEYS stays. To use it: set -a; . .dev/env; set +a\n".to_owned()
        + &lines.collect::<String>()
}

/// The path of a `file:` URL, with all that is not plainly a path character escaped.
fn url_path(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let bytes = path.as_os_str().as_encoded_bytes().iter();
    bytes.map(|byte| if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_kept() {
        let scratch = crate::scratch::Scratch::new("environment").unwrap();
        let file = scratch.path().join("env");
        let made = kept_master_keys(&file).unwrap();
        let key = STANDARD.decode(made.strip_prefix("k1:").unwrap()).unwrap();
        assert_eq!(key.len(), 32);

        secret::write_private(&file, &render(&[("MASTER_KEYS".into(), made.clone())])).unwrap();
        assert_eq!(kept_master_keys(&file).unwrap(), made);
    }

    #[test]
    fn a_folder_with_odd_characters_makes_a_valid_url() {
        assert_eq!(url_path(Path::new("/home/a b/ü#")), "/home/a%20b/%C3%BC%23");
    }
}
