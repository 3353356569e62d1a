//! Sessions: going on with them, seeing them, ending them everywhere at once.

use std::time::{Duration, Instant};

use millwork_shared::auth::Client as Origin;
use millwork_shared::auth::queries::sessions::{self, Spent};
use millwork_shared::infra::crypto::token_hash;
use millwork_shared::tenants::{Role, queries as tenants};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Options, PASSWORD, Reply, Tenant, TestApp};

async fn refresh(app: &TestApp, token: &str) -> Reply {
    app.anonymous().post("/auth/refresh", json!({ "refresh_token": token })).await
}

async fn refresh_as(app: &TestApp, user_agent: &str, token: &str) -> Reply {
    let request = app.anonymous().request(Method::POST, "/auth/refresh").header("user-agent", user_agent);
    Reply::of(request.json(&json!({ "refresh_token": token }))).await
}

/// Signs in: access token and refresh token.
async fn login(app: &TestApp, tenant: &Tenant<'_>) -> (String, String) {
    let body = json!({ "email": tenant.email, "password": PASSWORD });
    let session = app.anonymous().post("/auth/login", body).await.expect(200);
    (text(&session["data"]["access_token"]), text(&session["data"]["refresh_token"]))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn next(reply: &Reply) -> String {
    text(&reply.expect(200)["data"]["refresh_token"])
}

async fn notices(app: &TestApp) -> Vec<Option<String>> {
    let notices = "select concat(payload::json->>'notice', ' ', payload::json->>'user')
                     from jobs where kind = 'auth.send_notice' order by id";
    app.db.sql(notices).await
}

#[tokio::test]
async fn a_refresh_token_that_comes_again_ends_the_session_of_thief_and_owner_who_hears_of_it() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let second = refresh(&app, &acme.refresh_token).await.expect(200);
    let thief = app.bearer(text(&second["data"]["access_token"]));
    thief.get("/auth/me").await.expect(200);
    app.advance(sessions::RETRY_WITHIN).await;

    refresh(&app, &acme.refresh_token).await.problem(401, "refresh_token_reused");
    thief.get("/auth/me").await.problem(401, "token_invalid");
    acme.owner.get("/auth/me").await.problem(401, "token_invalid");
    refresh(&app, second["data"]["refresh_token"].as_str().unwrap()).await.problem(401, "refresh_token_invalid");
    refresh(&app, "mwr_unknown").await.problem(401, "refresh_token_invalid");
    let told = [Some(format!("session_ended {}", acme.owner_id))];
    assert_eq!(notices(&app).await, told);

    refresh(&app, &acme.refresh_token).await.problem(401, "refresh_token_invalid");
    assert_eq!(notices(&app).await, told, "an ended session is told of once");
    login(&app, &acme).await;
}

#[tokio::test]
async fn a_lost_answer_may_be_asked_for_again_within_seconds() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let second = next(&refresh(&app, &acme.refresh_token).await);
    let again = refresh(&app, &acme.refresh_token).await;
    assert_eq!(next(&again), second, "both answers lead to the same session");
    app.bearer(text(&again.expect(200)["data"]["access_token"])).get("/auth/me").await.expect(200);
    let third = next(&refresh(&app, &second).await);
    assert_ne!(third, second);
    // The second one was used, so its answer has arrived: who has the first one still is somebody else.
    refresh(&app, &acme.refresh_token).await.problem(401, "refresh_token_reused");
    refresh(&app, &third).await.problem(401, "refresh_token_invalid");
}

#[tokio::test]
async fn a_lost_answer_is_not_given_to_another_client() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    refresh_as(&app, "one", &acme.refresh_token).await.expect(200);
    refresh_as(&app, "two", &acme.refresh_token).await.problem(401, "refresh_token_reused");
}

#[tokio::test]
async fn refreshes_with_one_token_at_once_agree_on_the_next() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let replies = futures::future::join_all((0..4).map(|_| refresh(&app, &acme.refresh_token))).await;
    let mut tokens: Vec<_> = replies.iter().map(next).collect();
    tokens.dedup();
    assert_eq!(tokens.len(), 1);
    refresh(&app, &tokens[0]).await.expect(200);
}

#[tokio::test]
async fn no_token_is_stored_nor_can_be_derived_from_what_is() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let second = next(&refresh(&app, &acme.refresh_token).await);
    let rows = app.db.sql("select string_agg(t::text, ' ') from refresh_tokens t").await;
    for token in [&acme.refresh_token, &second] {
        assert!(!rows[0].as_deref().unwrap().contains(token.strip_prefix("mwr_").unwrap()));
    }
    next(&refresh(&app, &second).await);
    let salts = app.db.sql("select salt::text from refresh_tokens where salt is not null").await;
    assert_eq!(salts.len(), 1, "a salt is forgotten when the token made with it is used");
}

#[tokio::test]
async fn a_session_ends_after_ninety_days_however_busy_it_is() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let mut token = acme.refresh_token.clone();
    for _ in 0..3 {
        app.advance(Duration::from_secs(29 * 24 * 3_600)).await;
        token = next(&refresh(&app, &token).await);
    }
    app.advance(Duration::from_secs(3 * 24 * 3_600 + 1)).await;
    refresh(&app, &token).await.problem(401, "refresh_token_invalid");
}

#[tokio::test]
async fn people_see_their_open_sessions_and_end_them_one_by_one() {
    let app = TestApp::start().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    let request = app.anonymous().request(Method::POST, "/auth/login").header("user-agent", "phone/1");
    let phone = Reply::of(request.json(&json!({ "email": acme.email, "password": PASSWORD }))).await.expect(200);
    let phone = app.bearer(text(&phone["data"]["access_token"]));
    phone.get("/auth/me").await.expect(200);

    let list = acme.owner.get("/auth/sessions").await.expect(200);
    let [first, second] = list["data"].as_array().unwrap().as_slice() else { panic!("{list}") };
    assert_eq!((&first["user_agent"], &first["address"]), (&json!("phone/1"), &json!("127.0.0.1")));
    assert_eq!((&first["current"], &second["current"]), (&json!(false), &json!(true)));
    assert_eq!(first["tenant_name"], "acme");
    let page = acme.owner.get("/auth/sessions?limit=1").await.expect(200);
    let cursor = page["meta"]["next_cursor"].as_str().unwrap();
    let page = acme.owner.get(&format!("/auth/sessions?limit=1&cursor={cursor}")).await.expect(200);
    assert_eq!(page["data"][0]["id"], second["id"]);

    let path = format!("/auth/sessions/{}", first["id"].as_str().unwrap());
    assert_eq!(&acme.owner.get(&path).await.expect(200)["data"], first);
    other.owner.get(&path).await.problem(404, "not_found");
    other.owner.delete(&path).await.problem(404, "not_found");
    phone.get("/auth/me").await.expect(200);
    acme.owner.delete(&path).await.expect(204);
    phone.get("/auth/me").await.problem(401, "token_invalid");
    acme.owner.delete(&path).await.problem(404, "not_found");
    assert_eq!(acme.owner.get("/auth/sessions").await.expect(200)["data"].as_array().unwrap().len(), 1);
    acme.owner.get("/auth/me").await.expect(200);
}

#[tokio::test]
async fn the_other_sessions_end_together_or_all_of_them() {
    let app = TestApp::start().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    let (access, _) = login(&app, &acme).await;
    let second = app.bearer(access);
    let key = acme.api_key(&["jobs:read"]).await;
    for client in [&acme.owner, &second, &other.owner, &key] {
        client.get("/auth/me").await.expect(200);
    }
    second.delete("/auth/sessions").await.expect(204);
    acme.owner.get("/auth/me").await.problem(401, "token_invalid");
    second.get("/auth/me").await.expect(200);

    let (access, token) = login(&app, &acme).await;
    second.post_empty("/auth/logout-all").await.expect(204);
    second.get("/auth/me").await.problem(401, "token_invalid");
    app.bearer(access).get("/auth/me").await.problem(401, "token_invalid");
    refresh(&app, &token).await.problem(401, "refresh_token_invalid");
    other.owner.get("/auth/me").await.expect(200);
    key.get("/auth/me").await.expect(200);
}

#[tokio::test]
async fn an_api_key_has_no_say_over_the_sessions_of_who_made_it() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let key = acme.api_key(&["jobs:read"]).await;
    let session = acme.owner.get("/auth/me").await.expect(200)["data"]["session_id"].as_str().unwrap().to_owned();
    let one = format!("/auth/sessions/{session}");
    for path in ["/auth/sessions", "/tenants", &one] {
        key.get(path).await.problem(409, "not_a_session");
    }
    for path in ["/auth/sessions", &one] {
        key.delete(path).await.problem(409, "not_a_session");
    }
    for path in ["/auth/logout", "/auth/logout-all", "/auth/verify-email/resend"] {
        key.post_empty(path).await.problem(409, "not_a_session");
    }
    key.post("/auth/switch", json!({ "tenant_id": acme.id })).await.problem(409, "not_a_session");
    let body = json!({ "current_password": PASSWORD, "password": "another horse battery" });
    key.post("/auth/change-password", body).await.problem(409, "not_a_session");
    acme.owner.get("/auth/me").await.expect(200);
}

/// Asks until the token is refused; fails when that takes as long as another process would remember it by itself.
async fn is_refused_at_once(client: &Client, since: Instant) {
    while client.get("/auth/me").await.status != 401 {
        assert!(since.elapsed() < Duration::from_millis(2_500), "the token is honoured by the other process still");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_one_process_revokes_stops_in_the_others_at_once() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let (other, url) = app.another(Options::default()).await;
    while other.tokens.generation() == 0 {
        tokio::task::yield_now().await; // until it listens
    }
    let elsewhere = |token: &str| Client::new(&url, Some(token.to_owned()));
    let owner = elsewhere(acme.owner.token.as_ref().unwrap());
    let key = acme.owner.post("/api-keys", json!({ "name": "x", "permissions": ["jobs:read"] })).await.expect(201);
    let key_there = elsewhere(key["data"]["secret"].as_str().unwrap());
    let known = Instant::now();
    owner.get("/auth/me").await.expect(200);
    key_there.get("/auth/me").await.expect(200);

    acme.owner.delete(&format!("/api-keys/{}", key["data"]["id"].as_str().unwrap())).await.expect(204);
    is_refused_at_once(&key_there, known).await;
    acme.owner.post_empty("/auth/logout").await.expect(204);
    is_refused_at_once(&owner, known).await;
}

#[tokio::test]
async fn without_redis_the_database_ends_a_session_within_seconds() {
    let without = || Options { redis_url: "redis://127.0.0.1:1/".into(), ..Options::default() };
    let app = TestApp::start_with(without()).await;
    let acme = app.tenant("acme").await;
    let (_, url) = app.another(without()).await;
    let elsewhere = Client::new(&url, acme.owner.token.clone());
    elsewhere.get("/auth/me").await.expect(200);
    acme.owner.post_empty("/auth/logout").await.expect(204);
    acme.owner.get("/auth/me").await.problem(401, "token_invalid");
    app.advance(Duration::from_secs(5)).await;
    elsewhere.get("/auth/me").await.problem(401, "token_invalid");
}

#[tokio::test]
async fn a_session_that_ends_while_it_is_refreshed_has_ended() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let mut tx = app.db.db.identity().await.unwrap();
    let spent = sessions::spend(&mut tx, token_hash(&acme.refresh_token), &Origin::default(), &[1; 16]).await.unwrap();
    let Spent::Now(session) = spent else { panic!("{spent:?}") };
    sessions::insert_token(&mut tx, session, token_hash("mwr_next")).await.unwrap();
    let logout = acme.owner.post_empty("/auth/logout");
    let commit = async {
        app.until_blocked(1).await;
        tx.commit().await.unwrap();
    };
    let (reply, ()) = futures::join!(logout, commit);
    reply.expect(204);
    refresh(&app, "mwr_next").await.problem(401, "refresh_token_invalid");
}

#[tokio::test]
async fn a_person_has_a_hundred_sessions_at_most() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    app.db
        .sql(format!(
            "insert into sessions (id, tenant_id, user_id, expires_at)
             select uuid_floor(now() + n * interval '1 ms'), '{}', '{}', now() + interval '1 day'
               from generate_series(1, 99) n",
            acme.id, acme.owner_id
        ))
        .await;
    acme.owner.get("/auth/me").await.expect(200);
    app.advance(Duration::from_secs(6)).await;
    acme.owner.get("/auth/me").await.expect(200);
    login(&app, &acme).await;
    app.advance(Duration::from_secs(6)).await;
    acme.owner.get("/auth/me").await.problem(401, "token_invalid");
}

#[tokio::test]
async fn a_person_switches_among_their_tenants_and_to_no_other() {
    let app = TestApp::start().await;
    let (acme, other, third) = (app.tenant("acme").await, app.tenant("other").await, app.tenant("third").await);
    let mut tx = app.db.db.identity().await.unwrap();
    tenants::insert_membership(&mut tx, other.id, acme.owner_id, Role::Viewer).await.unwrap();
    tx.commit().await.unwrap();

    let list = acme.owner.get("/tenants").await.expect(200);
    let seen: Vec<_> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (text(&m["tenant"]["name"]), m["roles"].clone(), m["current"].clone()))
        .collect();
    let expected =
        [("other".to_owned(), json!(["viewer"]), json!(false)), ("acme".to_owned(), json!(["owner"]), json!(true))];
    assert_eq!(seen, expected);
    assert!(acme.owner.get("/tenants?limit=1").await.expect(200)["meta"]["next_cursor"].is_string());

    let switched = acme.owner.post("/auth/switch", json!({ "tenant_id": other.id })).await.expect(200);
    assert_eq!(switched["data"]["tenant"]["id"], other.id.to_string());
    let there = app.bearer(text(&switched["data"]["access_token"]));
    assert_eq!(there.get("/auth/me").await.expect(200)["data"]["roles"], json!(["viewer"]));
    refresh(&app, switched["data"]["refresh_token"].as_str().unwrap()).await.expect(200);
    assert_eq!(acme.owner.get("/auth/me").await.expect(200)["data"]["tenant"]["name"], "acme", "it goes on too");
    acme.owner.post("/auth/switch", json!({ "tenant_id": third.id })).await.problem(403, "not_a_member");
}
