//! What the platform's staff see and do.

mod sessions;
mod tenants;
mod users;

use std::time::Duration;

use millwork_api::admin::command::{self, AdminCommand};
use serde_json::{Value, json};

use crate::auth::mfa::Device;
use crate::support::{Client, TestApp};

pub const EMAIL: &str = "olga@millwork.example";
pub const PASSWORD: &str = "staff keeps the lights on";

/// Carries out `millwork-api admin …`: what it says.
pub async fn admin(app: &TestApp, command: AdminCommand) -> anyhow::Result<String> {
    let mut out = Vec::new();
    command::run(&app.db.db, &command, "https://api.example", &mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

pub fn create(email: &str) -> AdminCommand {
    AdminCommand::CreateStaff { email: email.to_owned(), name: Some("Olga Operator".to_owned()) }
}

/// The token in what a command said.
pub fn token(said: &str) -> String {
    said.split_whitespace().find(|word| word.starts_with("mwi_")).unwrap().to_owned()
}

/// Chooses password and second factor: a client that is signed in as staff, and the device.
pub async fn begin(app: &TestApp, token: &str) -> (Client, Device) {
    let anonymous = app.anonymous();
    let secret = anonymous.post("/admin/auth/enrol", json!({ "token": token })).await.expect(200);
    let device = Device::of(secret["data"]["secret"].as_str().unwrap());
    let body = json!({ "token": token, "password": PASSWORD, "otp": device.code(app) });
    let session = anonymous.post("/admin/auth/activate", body).await.expect(200);
    app.advance(Duration::from_secs(60)).await;
    (app.bearer(session["data"]["token"].as_str().unwrap()), device)
}

/// Somebody of the staff who is signed in.
pub async fn staff(app: &TestApp, email: &str) -> Client {
    let said = admin(app, create(email)).await.unwrap();
    begin(app, &token(&said)).await.0
}

/// Audit entries as `tenant action actor`, oldest first; the platform's have no tenant.
pub async fn entries(app: &TestApp, of: &str) -> Vec<String> {
    let sql = format!("select action || ' ' || actor_type from audit_logs where {of} order by id");
    app.db.sql(sql).await.into_iter().flatten().collect()
}

/// An entry of a list.
pub fn find<'a>(list: &'a Value, id: &str) -> Option<&'a Value> {
    list["data"].as_array().unwrap().iter().find(|entry| entry["id"] == id)
}
