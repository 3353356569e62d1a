//! Files: stored as they come, given out as they were, and nothing left of what failed.

mod content;
mod direct;
mod lifecycle;
mod refused;
mod upload;

use serde_json::Value;

use crate::support::{Client, TestApp};

/// The smallest that counts as a picture.
pub const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

pub fn id(file: &Value) -> &str {
    file["id"].as_str().unwrap()
}

pub async fn stored(client: &Client, name: &str, content: &[u8]) -> Value {
    client.upload(name, "text/plain", content).await.expect(201)["data"].clone()
}

/// Bytes of the tenant's files by its quota.
pub async fn used(client: &Client) -> i64 {
    client.get("/usage").await.expect(200)["data"]["storage_bytes"].as_i64().unwrap()
}

/// The states of all objects, and how many there are of each.
pub async fn states(app: &TestApp) -> String {
    let sql = "select coalesce(string_agg(line, ' '), '') from
               (select state || '=' || count(*) as line from objects group by state order by state) lines";
    app.db.sql(sql).await[0].clone().unwrap()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl TestApp {
    /// Waits for what is done behind an answer: giving up what failed.
    pub async fn until_states(&self, expected: &str) {
        let reached = async { while states(self).await != expected {} };
        if tokio::time::timeout(crate::support::PATIENCE, reached).await.is_err() {
            panic!("objects are {}, and not {expected}", states(self).await);
        }
    }
}
