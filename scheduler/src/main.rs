//! The scheduler process.

use millwork_scheduler::config::Config;
use millwork_shared::infra::{config, shutdown};

fn main() -> anyhow::Result<()> {
    config::load_dotenv();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(async {
        let config = Config::read()?; // handles to the stores belong to the runtime
        let stop = shutdown::on_signal()?;
        millwork_scheduler::run(config, stop).await
    })
}
