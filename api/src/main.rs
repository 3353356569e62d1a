//! `millwork-api`: serves the HTTP API, and brings the schema up to date.

use clap::Parser;
use millwork_api::config::{AuditCommand, Cli, Command};
use millwork_api::{admin, audit, rekey, run};
use millwork_shared::infra::config::load_dotenv;

fn main() -> anyhow::Result<()> {
    load_dotenv();
    let cli = Cli::parse();
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        anyhow::bail!("another TLS provider was installed first");
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        match cli.command {
            Some(Command::Migrate) => {
                cli.log.install();
                run::migrate(cli.database()?).await
            }
            Some(Command::Audit(AuditCommand::Verify { tenant })) => {
                cli.log.install();
                let (db, keys) = cli.database_and_keys()?;
                audit::verify::run(&db, &keys, tenant, &mut std::io::stdout()).await
            }
            Some(Command::Admin(ref command)) => {
                cli.log.install();
                let (db, public_url) = cli.database_and_public_url()?;
                admin::command::run(&db, command, &public_url, &mut std::io::stdout()).await
            }
            Some(Command::Rekey { check }) => {
                cli.log.install();
                let (db, keys) = cli.database_and_keys()?;
                rekey::run(&db, &keys, check, &mut std::io::stdout()).await
            }
            None => run::serve(cli.config()?).await,
        }
    })
}
