use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use millwork_dev::http::{self, Request, Response};
use serde_json::{Value, json};

/// Longer than the API takes to give up a request.
const PATIENCE: Duration = Duration::from_secs(20);
/// Before a request that was put off is sent again: sooner than a polite client would.
const AGAIN: Duration = Duration::from_millis(200);

/// A tenant's owner, who talks to the public routes.
#[derive(Clone)]
pub struct Client {
    base: String,
    token: String,
}

/// A job that is done at once.
pub fn echo(tag: &str) -> Value {
    json!({"kind": "echo", "payload": {"tag": tag}, "tags": [tag]})
}

/// A job that calls `url` until that answers 200.
pub fn retrying(url: &str, tag: &str) -> Value {
    json!({
        "kind": "http.request", "payload": {"url": url, "method": "POST"}, "timeout_ms": 600_000, "tags": [tag],
    })
}

impl Client {
    /// Registers a tenant.
    pub fn register(api_url: &str) -> Self {
        let base = format!("{api_url}/api/v1");
        let body = json!({
            "tenant_name": "Faults", "name": "Owner", "email": "owner@example.com", "password": "correct horse 42 battery",
        });
        let answer = http::post(&format!("{base}/auth/register")).json(&body).send().unwrap().expect(201).unwrap();
        Self { token: answer["data"]["access_token"].as_str().unwrap().to_owned(), base }
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    /// What is there. An answer that says when to come back is taken at its word, for a while.
    pub fn get(&self, path: &str) -> Value {
        let began = Instant::now();
        loop {
            let answer = self.request("GET", path).timeout(PATIENCE).send().unwrap();
            let put_off = answer.status == 503 && answer.header("retry-after").is_some();
            if !put_off || began.elapsed() > PATIENCE {
                return answer.expect(200).unwrap();
            }
            std::thread::sleep(AGAIN);
        }
    }

    /// POST without a body, which must be answered with `status`.
    pub fn post(&self, path: &str, status: u16) -> Value {
        self.request("POST", path).send().unwrap().expect(status).unwrap()
    }

    /// Submits one job, whatever the answer.
    pub fn try_submit(&self, job: &Value, key: Option<&str>) -> Result<Response> {
        let request = self.request("POST", "/jobs").json(job).timeout(PATIENCE);
        match key {
            Some(key) => request.header("idempotency-key", key),
            None => request,
        }
        .send()
    }

    /// POST with a body and further headers, answered by 2xx.
    pub fn post_with(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Value {
        let request = self.request("POST", path).json(body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        let answer = request.send().unwrap();
        assert!((200..300).contains(&answer.status), "{}: {}", answer.status, answer.text());
        answer.json().unwrap()["data"].take()
    }

    /// Submits one job and answers its id.
    pub fn submit(&self, job: &Value) -> String {
        let answer = self.try_submit(job, None).unwrap().expect(202).unwrap();
        answer["data"]["id"].as_str().unwrap().to_owned()
    }

    /// Submits `count` jobs like `job` in batches, and answers their ids.
    pub fn submit_many(&self, job: &Value, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        for batch in vec![job; count].chunks(1_000) {
            let request = self.request("POST", "/jobs/batch").json(&json!({"jobs": batch}));
            let answer = request.send().unwrap().expect(202).unwrap();
            ids.extend(answer["data"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()));
        }
        ids
    }

    pub fn job(&self, id: &str) -> Value {
        self.get(&format!("/jobs/{id}"))["data"].take()
    }

    /// The attempts at a job, oldest first.
    pub fn attempts(&self, id: &str) -> Vec<Value> {
        let mut attempts = self.get(&format!("/jobs/{id}/attempts"))["data"].as_array().unwrap().clone();
        attempts.reverse();
        attempts
    }

    /// How the attempts at a job ended, oldest first.
    pub fn endings(&self, id: &str) -> Vec<String> {
        self.attempts(id).iter().map(|attempt| attempt["ended"].as_str().unwrap().to_owned()).collect()
    }

    /// Every job with this tag, page by page.
    pub fn jobs(&self, tag: &str) -> Vec<Value> {
        let (mut jobs, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.get(&format!("/jobs?tag={tag}&limit=100{cursor}"));
            jobs.extend(page["data"].as_array().unwrap().iter().cloned());
            match page["meta"]["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return jobs,
            }
        }
    }

    /// How many jobs with this tag are in each state.
    pub fn states(&self, tag: &str) -> BTreeMap<String, usize> {
        let mut states = BTreeMap::new();
        for job in self.jobs(tag) {
            *states.entry(job["state"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        states
    }

    /// How many jobs have not ended, but for the mails of the registration.
    pub fn live(&self) -> u64 {
        let queues = self.get("/queues");
        let queues = queues["data"].as_array().unwrap().iter().filter(|queue| queue["name"] != "email");
        let live = |queue: &Value| -> u64 {
            let figures = ["depth", "running", "scheduled", "retrying"];
            figures.iter().map(|figure| queue[figure].as_u64().unwrap()).sum()
        };
        queues.map(live).sum()
    }

    /// Ids of the workers whose lease is alive.
    pub fn workers(&self) -> Vec<String> {
        let workers = self.get("/workers");
        workers["data"].as_array().unwrap().iter().map(|worker| worker["id"].as_str().unwrap().to_owned()).collect()
    }

    fn request(&self, method: &'static str, path: &str) -> Request {
        Request::new(method, &format!("{}{path}", self.base)).bearer(&self.token)
    }
}
