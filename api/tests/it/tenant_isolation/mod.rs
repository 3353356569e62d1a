//! Walks the served document: whoever may not call an operation is refused, and other tenants' things are not there.

mod cases;

use std::collections::HashMap;

use reqwest::Method;
use serde_json::Value;

use self::cases::{Case, OWNER, Place, Who, cases};
use crate::admin;
use crate::support::{Client, PASSWORD, Reply, Tenant, TestApp, operations};

/// One operation of the document with its case.
struct Walk {
    case: Case,
    method: Method,
    path: String,
    operation: Value,
}

impl Walk {
    /// The path with `name` in it.
    fn at(&self, name: &str) -> String {
        let part = |part: &str| if part.starts_with('{') { name.to_owned() } else { part.to_owned() };
        self.path.split('/').map(part).collect::<Vec<_>>().join("/")
    }

    /// `owner` is of the tenant that has what `name` names.
    fn request(&self, by: &Client, name: &str, owner: &str) -> reqwest::RequestBuilder {
        if self.case.form {
            return by.form(self.method.clone(), &self.at(name), "a.txt", "text/plain", b"another text");
        }
        let request = by.request(self.method.clone(), &self.at(name));
        match &self.case.body {
            Some(body) => {
                let body = body.to_string().replace(OWNER, owner);
                request.header("content-type", "application/json").body(body)
            }
            None => request,
        }
    }

    async fn ask(&self, by: &Client, name: &str) -> Reply {
        Reply::of(self.request(by, name, OWNER)).await
    }

    fn permission(&self) -> Option<&str> {
        self.operation["x-permission"].as_str()
    }
}

/// The served operations, each with its case; fails for one without, and for a case without an operation.
async fn walk(app: &TestApp) -> Vec<Walk> {
    let document = app.anonymous().get("/openapi.json").await.expect(200);
    let mut cases: HashMap<_, _> = cases().into_iter().map(|case| (case.operation, case)).collect();
    let mut walks = Vec::new();
    for (method, path, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        let case = cases.remove(id).unwrap_or_else(|| {
            panic!("`{method} {path}` has no case: add `{id}` to api/tests/it/tenant_isolation/cases.rs")
        });
        assert_eq!(path.contains('{'), case.place != Place::None, "{id}: its path names something, or does not");
        let method = method.parse().unwrap();
        walks.push(Walk { case, method, path, operation: operation.clone() });
    }
    assert!(cases.is_empty(), "cases of operations that are not served: {:?}", cases.keys());
    walks
}

#[tokio::test]
async fn nobody_calls_an_operation_without_a_token_that_is_good() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let (anonymous, revoked) = (app.anonymous(), revoked(&acme).await);
    for walk in walk(&app).await {
        let id = walk.case.operation;
        let open = walk.case.who == Who::Anyone;
        assert_eq!(walk.operation.get("security").is_none(), open, "{id}");
        if open {
            continue;
        }
        walk.ask(&anonymous, "x").await.problem(401, "unauthenticated");
        for client in &revoked {
            walk.ask(client, "x").await.problem(401, "token_invalid");
        }
    }
}

/// A session and a key that were good once, of somebody who may do everything.
async fn revoked(acme: &Tenant<'_>) -> [Client; 2] {
    let body = serde_json::json!({ "email": acme.email, "password": PASSWORD });
    let session = acme.app.anonymous().post("/auth/login", body).await.expect(200);
    let session = acme.app.bearer(session["data"]["access_token"].as_str().unwrap());
    let key = acme.key_without("").await;
    let me = key.get("/auth/me").await.expect(200);
    session.get("/auth/me").await.expect(200);
    acme.owner.delete(&format!("/api-keys/{}", me["data"]["api_key_id"].as_str().unwrap())).await.expect(204);
    session.post_empty("/auth/logout").await.expect(204);
    [session, key]
}

#[tokio::test]
async fn an_operation_is_refused_to_whoever_holds_everything_but_its_permission() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let mut keys: HashMap<String, Client> = HashMap::new();
    for walk in walk(&app).await {
        let id = walk.case.operation;
        assert_eq!(walk.permission().is_some(), walk.case.who == Who::Holder, "{id}");
        let Some(permission) = walk.permission() else { continue };
        if !keys.contains_key(permission) {
            keys.insert(permission.to_owned(), acme.key_without(permission).await);
        }
        let name = match walk.case.place {
            Place::None => String::new(),
            Place::Of(object) => object.make(&acme).await,
            Place::Everybodys(name) => name.to_owned(),
        };
        let problem = walk.ask(&keys[permission], &name).await.problem(403, "permission_missing");
        assert_eq!(problem["permission"], permission, "{id}");
        assert!(problem["detail"].as_str().unwrap().contains(permission), "{id}: {problem}");
        if let Some(own) = walk.operation["x-permission-of-maker"].as_str() {
            let neither = acme.key_without_any(&[permission, own]).await;
            let problem = walk.ask(&neither, &name).await.problem(403, "permission_missing");
            assert_eq!(problem["permission"], permission, "{id}");
        }
    }
}

#[tokio::test]
async fn things_of_another_tenant_are_as_absent_as_those_that_never_were() {
    let app = TestApp::start().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    let walks = walk(&app).await;
    let mut made = Vec::new();
    for walk in &walks {
        let (id, Place::Of(object)) = (walk.case.operation, walk.case.place) else { continue };
        let name = object.make(&acme).await;
        let mut bodies = Vec::new();
        for name in [name.as_str(), object.absent()] {
            let reply = walk.ask(&other.owner, name).await;
            assert_eq!(reply.status, 404, "{id} {name}: {}", reply.text());
            let mut problem = reply.problem(404, "not_found");
            problem["request_id"].take();
            bodies.push(problem);
        }
        assert_eq!(bodies[0], bodies[1], "{id}");
        // It was there all the time, and the request was one that could be answered.
        let reply = walk.request(&acme.owner, &name, &acme.owner_id.to_string()).send().await.unwrap();
        let status = reply.status().as_u16();
        assert!(matches!(status, 200..=299 | 409), "{id} {status}");
        made.push(name);
    }
    for walk in walks.iter().filter(|walk| walk.method == Method::GET && walk.case.place == Place::None) {
        let text = walk.ask(&other.owner, "").await.text();
        let seen: Vec<_> = made.iter().filter(|name| text.contains(name.as_str())).collect();
        assert!(seen.is_empty(), "{} shows another tenant's {seen:?}", walk.case.operation);
    }
}

#[tokio::test]
async fn staff_and_people_of_tenants_have_doors_of_their_own() {
    let app = TestApp::start().await;
    let acme = app.tenant("acme").await;
    let key = acme.key_without("").await;
    let (staff, former) =
        (admin::staff(&app, "a@millwork.example").await, admin::staff(&app, "b@millwork.example").await);
    former.post_empty("/admin/auth/logout").await.expect(204);
    let mut seen = 0;
    for walk in walk(&app).await {
        let strangers: &[&Client] = match walk.case.who {
            Who::Anyone => continue,
            Who::Staff => &[&acme.owner, &key, &former],
            Who::Member | Who::Holder => &[&staff],
        };
        seen += usize::from(walk.case.who == Who::Staff);
        for client in strangers {
            let reply = walk.ask(client, "x").await;
            assert_eq!(reply.status, 401, "{} {}", walk.case.operation, reply.text());
            reply.problem(401, "token_invalid");
        }
    }
    assert!(seen > 10);
    staff.get("/admin/me").await.expect(200);
}
