//! The worker process.

use millwork_shared::infra::{config, shutdown};
use millwork_worker::config::Config;

fn main() -> anyhow::Result<()> {
    config::load_dotenv();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let config = Config::read()?; // handles to the stores belong to the runtime
        let stop = shutdown::on_signal()?;
        millwork_worker::run(config, stop).await
    })
}
