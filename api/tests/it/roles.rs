//! Who may do what.

use std::fmt::Write;

use serde_json::Value;

use crate::support::{TestApp, operations};

/// Shown to people; a change there is a change of who may do what.
const PERMISSIONS: &str = include_str!("../../../docs/permissions.md");

#[tokio::test]
async fn the_page_on_permissions_is_what_the_server_says() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let matrix = acme.owner.get("/permissions").await.expect(200)["data"].clone();
    let document = app.anonymous().get("/openapi.json").await.expect(200);
    let page = page(&matrix, &document);
    if page != PERMISSIONS {
        let fresh = concat!(env!("CARGO_TARGET_TMPDIR"), "/permissions.md");
        std::fs::write(fresh, &page).unwrap();
        panic!("docs/permissions.md is out of date; after a wanted change: cp {fresh} docs/permissions.md");
    }
}

const ROLES: [&str; 5] = ["owner", "admin", "developer", "support", "viewer"];

fn page(matrix: &Value, document: &Value) -> String {
    let mut page = String::from(
        "# Permissions\n\nGenerated: `GET /permissions` and the OpenAPI document say the same, and a test fails when this page does not.\n\
         A custom role or an API key holds any of these that its maker holds. Operations marked † are also open to who holds\n\
         `jobs:submit` and submitted the job.\n\n",
    );
    writeln!(page, "| Permission | {} | Operations |", ROLES.join(" | ")).unwrap();
    writeln!(page, "|---|{}---|", ":-:|".repeat(ROLES.len())).unwrap();
    for action in matrix.as_array().unwrap().iter().flat_map(|resource| resource["actions"].as_array().unwrap()) {
        let holds = |role: &&str| action["roles"].as_array().unwrap().iter().any(|holder| holder == role);
        let marks: Vec<_> = ROLES.iter().map(|role| if holds(role) { "✓" } else { "" }).collect();
        let mut operations: Vec<_> = operations(document)
            .iter()
            .filter(|(_, _, operation)| operation["x-permission"] == action["permission"])
            .map(|(_, _, operation)| {
                let id = operation["operationId"].as_str().unwrap();
                if operation.get("x-permission-of-maker").is_some() { format!("`{id}`†") } else { format!("`{id}`") }
            })
            .collect();
        operations.sort();
        let permission = action["permission"].as_str().unwrap();
        writeln!(page, "| `{permission}` | {} | {} |", marks.join(" | "), operations.join(", ")).unwrap();
    }
    page
}
