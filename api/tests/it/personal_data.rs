//! What is kept of a person: the copy that they get, and what is left when they are erased.

use millwork_shared::tenants::Role;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Reply, TestApp};

/// What the export of that person's data shows.
async fn copy(app: &TestApp, by: &Client, user: &str) -> Value {
    let body = json!({ "resource": "personal_data", "user_id": user });
    let export = by.post("/exports", body).await.expect(202)["data"].clone();
    downloaded(app, by, &export).await
}

/// What an export shows when it is ready.
async fn downloaded(app: &TestApp, by: &Client, export: &Value) -> Value {
    by.until(export["job_id"].as_str().unwrap(), "succeeded").await;
    let path = format!("/exports/{}/download", export["id"].as_str().unwrap());
    let link = by.get(&path).await.expect(200)["data"]["url"].as_str().unwrap().to_owned();
    let reply = Reply::of(app.anonymous().request_url(Method::GET, &link)).await;
    serde_json::from_slice(&reply.body).unwrap_or_else(|error| panic!("{error}: {}", reply.text()))
}

#[tokio::test]
async fn whoever_may_not_export_gets_their_own_copy_nevertheless() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let vic = acme.member(Role::Viewer).await;
    let id = vic.user().await;
    let link = format!(
        "insert into identities (issuer, subject, user_id, provider, email)
         values ('https://id.example', 's', '{id}', 'acme', 'vic@id.example')"
    );
    app.db.sql(link).await;
    let _worker = app.worker();
    let body = json!({ "resource": "personal_data", "user_id": id });
    vic.post("/exports", body).await.problem(403, "permission_missing");
    let post =
        async || Reply::of(vic.request(Method::POST, "/auth/personal-data").header("idempotency-key", "k")).await;
    let export = post().await.expect(202)["data"].clone();
    assert_eq!(post().await.expect(202)["data"]["id"], export["id"]);
    let own = downloaded(&app, &vic, &export).await;
    assert_eq!(own["user_id"], id.as_str());
    assert_eq!(rows(&own, "identities")[0]["email"], "vic@id.example");
    // It is nobody else's, and not for programs to ask for.
    let path = format!("/exports/{}/download", export["id"].as_str().unwrap());
    acme.owner.get(&path).await.problem(403, "export_private");
    acme.api_key(&["exports:read"]).await.post_empty("/auth/personal-data").await.problem(409, "not_a_session");
}

fn rows<'a>(copy: &'a Value, section: &str) -> &'a Vec<Value> {
    copy["sections"][section].as_array().unwrap_or_else(|| panic!("{section}: {copy}"))
}

#[tokio::test]
async fn everybody_gets_what_is_kept_of_them_and_who_may_gets_others() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let ann = acme.member(Role::Developer).await;
    let id = ann.user().await;
    ann.post("/jobs", json!({ "kind": "echo", "payload": { "n": 7 }, "delay_s": 3600 })).await.expect(202);
    acme.owner.post("/jobs", json!({ "kind": "echo", "payload": {}, "delay_s": 3600 })).await.expect(202);
    ann.upload("a.txt", "text/plain", b"x").await.expect(201);
    let address = acme.owner.get(&format!("/users/{id}")).await.expect(200)["data"]["email"].clone();
    let alert = json!({ "on": "job.failed", "notify": { "email": address } });
    acme.owner.post("/alerts", alert).await.expect(201);
    let _worker = app.worker();

    let own = copy(&app, &ann, &id).await;
    assert_eq!(own["user_id"], id.as_str());
    assert_eq!(rows(&own, "account")[0]["email"], address, "{own}");
    assert_eq!(rows(&own, "membership")[0]["roles"], json!(["developer"]));
    assert_eq!(rows(&own, "sessions").len(), 1);
    assert!(rows(&own, "identities").is_empty());
    assert!(rows(&own, "invitations").is_empty() && rows(&own, "invitations_received").is_empty());
    assert_eq!(rows(&own, "alerts")[0]["cause"], "job.failed");
    assert_eq!(rows(&own, "files")[0]["name"], "a.txt");
    let jobs = rows(&own, "jobs");
    assert_eq!(jobs.iter().filter(|job| job["kind"] == "echo").count(), 1, "{own}");
    assert!(rows(&own, "actions").iter().any(|action| action["action"] == "file.created"), "{own}");
    let kept = own["kept"].as_array().unwrap();
    let jobs_kept = kept.iter().find(|kept| kept["section"] == "jobs").unwrap();
    assert_eq!(jobs_kept["rows"], jobs.len());

    let by_owner = copy(&app, &acme.owner, &id).await;
    assert_eq!(rows(&by_owner, "account")[0]["email"], address);
    assert!(by_owner["sections"].get("identities").is_none(), "how they sign in is theirs alone");

    // Of somebody else it takes a permission, of who is no member it is nothing.
    let boss = acme.owner.user().await;
    let body = json!({ "resource": "personal_data", "user_id": boss });
    let problem = ann.post("/exports", body).await.problem(403, "permission_missing");
    assert_eq!(problem["permission"], "personal_data:read");
    let key = acme.api_key(&["exports:write", "exports:read"]).await;
    let of_its_maker = json!({ "resource": "personal_data", "user_id": boss });
    key.post("/exports", of_its_maker).await.problem(403, "permission_missing");
    let stranger = app.tenant("other").await.owner.user().await;
    let body = json!({ "resource": "personal_data", "user_id": stranger });
    acme.owner.post("/exports", body).await.problem(422, "body_invalid");
    let mine = acme.owner.get("/exports").await.expect(200);
    let theirs = mine["data"].as_array().unwrap().iter().find(|export| export["requested_by"] == id.as_str()).unwrap();
    let path = format!("/exports/{}/download", theirs["id"].as_str().unwrap());
    acme.owner.get(&path).await.problem(403, "export_private");
    for (body, pointer) in [
        (json!({ "resource": "personal_data" }), "/user_id"),
        (json!({ "resource": "personal_data", "user_id": id, "format": "csv" }), "/format"),
        (json!({ "resource": "personal_data", "user_id": id, "filters": { "kind": "x" } }), "/filters"),
        (json!({ "resource": "jobs", "format": "csv", "user_id": id }), "/user_id"),
        (json!({ "resource": "jobs" }), "/format"),
    ] {
        let problem = acme.owner.post("/exports", body).await.problem(422, "body_invalid");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
}

/// Tables in which a text is found, of all columns of all tables.
async fn places(app: &TestApp, text: &str) -> Vec<String> {
    let sql = "select c.relname::text from pg_class c
                where c.relkind in ('r', 'p') and not c.relispartition and c.relnamespace = 'public'::regnamespace
                order by 1";
    let mut found = Vec::new();
    for table in app.db.sql(sql).await.into_iter().flatten() {
        let sql = format!("select count(*)::text from {table} t where t::text ilike '%{text}%'");
        if app.db.sql(sql).await[0].as_deref() != Some("0") {
            found.push(table);
        }
    }
    found
}

#[tokio::test]
async fn whoever_is_erased_is_found_nowhere_but_where_the_report_says() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let ann = acme.member(Role::Admin).await;
    let id = ann.user().await;
    let address = acme.owner.get(&format!("/users/{id}")).await.expect(200)["data"]["email"].clone();
    let address = address.as_str().unwrap();
    acme.owner.patch(&format!("/users/{id}"), json!({ "name": "Annabella Quill" })).await.expect(200);
    for (path, body) in [
        ("/alerts", json!({ "on": "job.failed", "notify": { "email": address } })),
        ("/alerts", json!({ "on": "job.failed", "notify": { "email": address, "event": true } })),
        ("/webhooks", json!({ "url": "https://hooks.acme.example/in", "event_types": ["user.*"] })),
    ] {
        acme.owner.post(path, body).await.expect(201);
    }
    ann.post("/api-keys", json!({ "name": "mine", "permissions": ["jobs:read"] })).await.expect(201);
    ann.post("/invitations", json!({ "email": "new@acme.example", "roles": ["viewer"] })).await.expect(201);
    let file = ann.upload("a.txt", "text/plain", b"x").await.expect(201)["data"]["id"].as_str().unwrap().to_owned();
    ann.post("/jobs", json!({ "kind": "echo", "payload": {}, "delay_s": 3600 })).await.expect(202);
    let worker = app.worker();
    copy(&app, &ann, &id).await;
    let before = places(&app, address).await;
    assert!(before.contains(&"users".to_owned()) && before.contains(&"alerts".to_owned()), "{before:?}");

    acme.member(Role::Developer)
        .await
        .post(&format!("/users/{id}/erase"), json!({}))
        .await
        .problem(403, "permission_missing");
    let erase = json!({ "delete_files": true });
    let job = acme.owner.post_once(&format!("/users/{id}/erase"), "k", erase.clone()).await.expect(202)["data"].clone();
    ann.get("/users/me").await.problem(401, "token_invalid");
    let job = acme.owner.until(job["id"].as_str().unwrap(), "succeeded").await;
    let report = &job["result"];
    assert_eq!((&report["account_erased"], &report["files_deleted"]), (&json!(true), &json!(1)), "{report}");
    let entries = acme.owner.get("/audit-logs?action=user.erased").await.expect(200);
    assert_eq!(&entries["data"][0]["after"], report, "{entries}");
    let events = acme.owner.get("/events?type=user.erased").await.expect(200);
    assert_eq!(events["data"][0]["payload"]["user_id"], id.as_str(), "{events}");
    acme.owner.get(&format!("/users/{id}")).await.problem(404, "not_found");
    acme.owner.post_empty(&format!("/files/{file}/restore")).await.problem(409, "file_gone");
    let again = acme.owner.post_once(&format!("/users/{id}/erase"), "k", erase).await;
    assert_eq!(again.expect(202)["data"]["id"], job["id"], "the same request, not another");

    drop(worker);
    // Entries that were there before, and answers that are kept for a day.
    for text in [address, "Annabella Quill"] {
        let left = places(&app, text).await;
        assert!(left.iter().all(|table| table == "audit_logs"), "{text}: {left:?}");
    }
    let sql =
        format!("select action from audit_logs where tenant_id = '{}' and after is null and before is null", acme.id);
    let silent = app.db.sql(sql).await;
    for action in ["membership.deleted", "invitation.deleted", "api_key.deleted", "alert.deleted", "alert.updated"] {
        assert!(silent.iter().flatten().any(|found| found == action), "{action} is told without what: {silent:?}");
    }
    let left = places(&app, &id).await;
    let known =
        ["audit_logs", "events", "exports", "file_versions", "files", "idempotency_keys", "jobs", "job_outcomes"];
    assert!(left.iter().all(|table| known.contains(&table.as_str())), "{left:?}");
    let objects =
        app.db.sql("select string_agg(distinct state || (delete_after <= ledger_now())::text, ',') from objects").await;
    assert_eq!(objects[0].as_deref(), Some("deletedtrue"), "the file and the copy go with the next sweep");
}
