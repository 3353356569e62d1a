use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use millwork_dev::process::{Process, binary};
use millwork_dev::scratch::Scratch;
use millwork_dev::services::find::PostgresBinaries;
use millwork_dev::services::psql::Psql;
use millwork_dev::services::{Postgres, Redis, RedisCluster};

use super::{Client, Member, SOON, Wire, wait_for};

/// Stores of its own, an API, a scheduler unless told otherwise, and a tenant. Workers are started by the test.
pub struct Cluster {
    pub client: Client,
    pub api: Member,
    pub scheduler: Option<Member>,
    pub postgres: Postgres,
    pub redis: Redis,
    environment: Vec<(String, String)>,
    scratch: Scratch,
}

impl Cluster {
    pub fn start() -> Self {
        let mut cluster = Self::without_scheduler();
        cluster.scheduler = Some(cluster.spawn_scheduler());
        cluster
    }

    pub fn without_scheduler() -> Self {
        Self::with(Postgres::url, |redis, _| redis.url(), &[])
    }

    /// With further variables for all its processes.
    pub fn start_with(variables: &[(&str, &str)]) -> Self {
        let mut cluster = Self::with(Postgres::url, |redis, _| redis.url(), variables);
        cluster.scheduler = Some(cluster.spawn_scheduler());
        cluster
    }

    /// Its processes reach PostgreSQL by the first wire and Redis by the second.
    pub fn over_wires() -> (Self, Wire, Wire) {
        let (mut to_postgres, mut to_redis) = (None, None);
        let by = |url: String, port: u16, wire: &mut Option<Wire>| {
            let wire = wire.insert(Wire::to(port).unwrap());
            url.replace(&format!(":{port}/"), &format!(":{}/", wire.port))
        };
        let mut cluster = Self::with(
            |postgres| by(postgres.url(), postgres.port(), &mut to_postgres),
            |redis, _| by(redis.url(), redis.port(), &mut to_redis),
            &[],
        );
        cluster.scheduler = Some(cluster.spawn_scheduler());
        (cluster, to_postgres.unwrap(), to_redis.unwrap())
    }

    /// Its processes use a Redis Cluster, and leave `redis` alone.
    pub fn over_redis_cluster() -> (Self, RedisCluster) {
        let mut nodes = None;
        let mut cluster = Self::with(
            Postgres::url,
            |_, scratch| nodes.insert(RedisCluster::start(&scratch.join("redis-cluster")).unwrap()).url(),
            &[],
        );
        cluster.scheduler = Some(cluster.spawn_scheduler());
        (cluster, nodes.unwrap())
    }

    fn with(
        database_url: impl FnOnce(&Postgres) -> String,
        redis_url: impl FnOnce(&Redis, &Path) -> String,
        variables: &[(&str, &str)],
    ) -> Self {
        let scratch = Scratch::new("faults").unwrap();
        let redis = Redis::start(&scratch.path().join("redis")).unwrap();
        let small = [("shared_buffers", "32MB"), ("max_connections", "120")];
        let postgres = Postgres::start_with(&scratch.path().join("postgres"), &small).unwrap();
        let mails = scratch.path().join("mail");
        std::fs::create_dir(&mails).unwrap();
        let environment = [
            ("DATABASE_URL", database_url(&postgres)),
            ("REDIS_URL", redis_url(&redis, scratch.path())),
            ("MASTER_KEYS", format!("k1:{}", STANDARD.encode([7; 32]))),
            ("MAIL_URL", format!("file://{}", mails.display())),
            ("STORAGE_URL", format!("file://{}", scratch.path().join("objects").display())),
            ("EGRESS_ALLOW_CIDRS", "127.0.0.0/8".to_owned()),
            ("LOG_FORMAT", "json".to_owned()),
            ("RUST_LOG", "info".to_owned()),
        ];
        let mut environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
        environment.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        migrate(&environment, &scratch);
        let api = Member::start("api", &environment, scratch.path());
        let client = Client::register(&api.url);
        Self { client, api, scheduler: None, postgres, redis, environment, scratch }
    }

    pub fn spawn_scheduler(&self) -> Member {
        Member::start("scheduler", &self.environment, self.scratch.path())
    }

    pub fn spawn_worker(&self) -> Member {
        self.spawn_worker_with(&[])
    }

    /// A worker with further variables.
    pub fn spawn_worker_with(&self, variables: &[(&str, &str)]) -> Member {
        let more = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment: Vec<_> = self.environment.iter().cloned().chain(more).collect();
        let worker = Member::start("worker", &environment, self.scratch.path());
        worker.worker_id(); // it is ready before it works
        worker
    }

    /// Kills the API (SIGKILL) and starts it again on the same port.
    pub fn crash_api(&mut self) {
        self.api.kill9().unwrap();
        let port = self.api.url.rsplit(':').next().unwrap().parse().unwrap();
        self.api = Member::start_at("api", port, &self.environment, self.scratch.path());
    }

    /// Waits until no job is live.
    pub fn wait_until_all_ended(&self, limit: Duration) {
        wait_for("the end of all jobs", limit, || self.client.live() == 0);
    }

    /// The folder of all objects.
    pub fn objects(&self) -> PathBuf {
        self.scratch.path().join("objects")
    }

    /// Runs statements as PostgreSQL's superuser.
    pub fn sql(&self, statements: &str) {
        Psql::connect(&PostgresBinaries::find().unwrap().unwrap(), &self.postgres, "millwork")
            .unwrap()
            .rows(statements)
            .unwrap();
    }

    /// What the API says of itself: `ok`, `degraded`, `down`.
    pub fn health(&self) -> String {
        self.api.health()["status"].as_str().unwrap().to_owned()
    }
}

fn migrate(environment: &[(String, String)], scratch: &Scratch) {
    let migration = Process::builder("migrate", binary("millwork-api").unwrap())
        .arg("migrate")
        .clean_env()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .current_dir(scratch.path())
        .start()
        .unwrap();
    let status = migration.wait(SOON).unwrap();
    assert!(status.success(), "{}", migration.obituary(status));
}
