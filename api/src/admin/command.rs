//! `millwork-api admin …`: who is staff is said at the machine, not by a request.

use std::io::Write;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Subcommand;
use millwork_shared::email::address::is_mail_address;
use millwork_shared::infra::crypto::{random_bytes, token_hash};
use millwork_shared::infra::db::Db;
use millwork_shared::staff::queries as rows;

#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Let somebody in as staff: shows the token, good for a day, by which they choose a password and a second factor
    CreateStaff {
        #[arg(long)]
        email: String,
        /// What they are called (by default the part of the address before the @)
        #[arg(long)]
        name: Option<String>,
    },
    /// Let somebody of the staff choose both anew, because one is lost: ends their sessions, shows a token
    ResetStaff {
        #[arg(long)]
        email: String,
    },
    /// Take somebody's place among the staff: ends their sessions
    RemoveStaff {
        #[arg(long)]
        email: String,
    },
}

/// Carries out a command and says what became of it. The token is shown this once; only its hash is stored.
///
/// # Errors
/// Says what is wrong with the address, or that nobody has it, or somebody already.
pub async fn run(db: &Db, command: &AdminCommand, public_url: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let token = format!("mwi_{}", URL_SAFE_NO_PAD.encode(random_bytes::<32>()));
    let mut tx = db.system().system().await?;
    match command {
        AdminCommand::CreateStaff { email, name } => {
            let email = email.trim();
            if !is_mail_address(email) || email.len() > 254 {
                bail!("`{email}` is not a mail address");
            }
            let name = name.as_deref().or(email.split('@').next()).unwrap_or(email).trim();
            if name.is_empty() || name.chars().count() > 200 || name.chars().any(char::is_control) {
                bail!("a name is one line of 1 to 200 characters");
            }
            rows::insert(&mut tx, email, name, token_hash(&token)).await?;
        }
        AdminCommand::ResetStaff { email } => {
            rows::reset(&mut tx, email.trim(), token_hash(&token)).await.with_context(|| format!("`{email}`"))?;
        }
        AdminCommand::RemoveStaff { email } => {
            rows::deactivate(&mut tx, email.trim()).await.with_context(|| format!("`{email}`"))?;
            tx.commit().await?;
            writeln!(out, "{email} is not of the staff any more")?;
            return Ok(());
        }
    }
    tx.commit().await?;
    writeln!(
        out,
        "The token, shown this once and good for 24 hours:\n\n  {token}\n\n\
         With it: POST {public_url}/api/v1/admin/auth/enrol {{\"token\": …}} answers the secret for an authenticator \
         app;\nthen POST {public_url}/api/v1/admin/auth/activate {{\"token\": …, \"password\": …, \"otp\": …}} opens \
         the account."
    )?;
    Ok(())
}
