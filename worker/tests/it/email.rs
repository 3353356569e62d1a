//! Mail as servers and people receive it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millwork_shared::email::jobs::SendEmail;
use millwork_shared::infra::ids::{JobId, TenantId};
use millwork_shared::jobs::{Job, JobError, Outcome};
use millwork_shared::testing::mail::MailBox;
use millwork_shared::testing::no_database;
use millwork_shared::testing::smtp::{Answer, Security, SmtpServer, Step};
use millwork_worker::context::Context;
use millwork_worker::email::send::send;
use millwork_worker::runtime::Run;
use serde_json::{Value, json};

use crate::support::{context, no_egress};

fn mail() -> SendEmail {
    job(json!({"to": "Ada <ada@example.com>", "subject": "Hi", "text": "Hello", "html": "<p>Hello</p>"}))
}

fn run() -> Arc<Run> {
    Arc::new(Run::for_test(TenantId::generate(), JobId::generate()))
}

/// The attempt after which the job fails.
fn last_run() -> Arc<Run> {
    let mut run = Run::for_test(TenantId::generate(), JobId::generate());
    run.attempt = run.max_attempts;
    Arc::new(run)
}

fn job(payload: Value) -> SendEmail {
    serde_json::from_value(payload).unwrap()
}

/// A worker that sends to `mail_url`. It has no database: mail needs none.
fn worker(mail_url: &str) -> Arc<Context> {
    worker_with(mail_url, Duration::from_secs(20))
}

fn worker_with(mail_url: &str, deadline: Duration) -> Arc<Context> {
    let mut ctx = context(&no_database(), no_egress(), mail_url);
    ctx.mailer = ctx.mailer.with_deadline(deadline);
    Arc::new(ctx)
}

async fn sent(ctx: &Arc<Context>, job: SendEmail) -> Outcome {
    send(job, run(), ctx.clone()).await.unwrap()
}

#[track_caller]
fn retried(outcome: Outcome) -> JobError {
    match outcome {
        Outcome::Retry { error, after: None } => error,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn failed(outcome: Outcome) -> JobError {
    match outcome {
        Outcome::Fail(error) => error,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn done(outcome: Outcome) {
    assert!(matches!(outcome, Outcome::Done(Some(_))), "{outcome:?}");
}

fn port_that_nobody_has() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_mail_arrives_with_its_headers_and_both_its_parts() {
    let server = SmtpServer::start().await;
    let ctx = worker(&server.url());
    let run = run();
    let payload = json!({
        "to": "Ada Ünicode Lovelace <ada@example.com>", "template": "welcome", "locale": "de-AT",
        "variables": {"name": "Ada <3", "tenant": "Söhne & Co", "url": "https://example.com/start?a=1&b=2"},
    });

    let outcome = send(job(payload), run.clone(), ctx).await.unwrap();

    let Outcome::Done(Some(result)) = outcome else { panic!("{outcome:?}") };
    let received = server.received().remove(0);
    assert_eq!(
        (received.from.as_str(), &received.to[..]),
        ("no-reply@example.com", &["ada@example.com".to_owned()][..])
    );
    let mail = received.mail;
    let message_id = format!("<{}@example.com>", run.job);
    assert_eq!(mail.header("Message-ID"), Some(message_id.as_str()));
    assert_eq!(result.get(), json!({ "message_id": message_id }).to_string());
    assert_eq!(mail.header("Auto-Submitted"), Some("auto-generated"));
    assert_eq!(mail.header("MIME-Version"), Some("1.0"));
    assert!(mail.header("Date").is_some());
    assert!(mail.header("From").unwrap().ends_with("<no-reply@example.com>"));
    assert!(mail.header("To").unwrap().ends_with("<ada@example.com>"));
    assert!(mail.header("Content-Type").unwrap().starts_with("multipart/alternative"));
    assert_eq!(mail.subject, "Willkommen bei Söhne & Co");
    assert!(mail.text.as_deref().unwrap().contains("Guten Tag Ada <3,"), "{:?}", mail.text);
    assert!(mail.html.as_deref().unwrap().contains("Guten Tag Ada &lt;3,"), "{:?}", mail.html);
    let detail = run.noted().unwrap();
    assert_eq!(detail["message_id"], json!(message_id));
    assert_eq!(detail["tried"][0]["server"], json!(server.addr.to_string()));
    assert_eq!(detail["tried"][0]["code"], json!(250));
}

#[tokio::test]
async fn a_job_that_runs_twice_sends_under_the_same_message_id() {
    let server = SmtpServer::start().await;
    let ctx = worker(&server.url());
    let (job_id, tenant) = (JobId::generate(), TenantId::generate());
    for _ in 0..2 {
        done(send(mail(), Arc::new(Run::for_test(tenant, job_id)), ctx.clone()).await.unwrap());
    }
    done(sent(&ctx, mail()).await);
    let ids: Vec<_> = server.received().iter().map(|r| r.mail.header("Message-ID").unwrap().to_owned()).collect();
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
}

#[tokio::test]
async fn one_connection_carries_one_mail_after_another() {
    let server = SmtpServer::start().await;
    let ctx = worker(&server.url());
    for _ in 0..5 {
        done(sent(&ctx, mail()).await);
    }
    assert_eq!((server.received().len(), server.connections()), (5, 1));
}

#[tokio::test]
async fn a_connection_that_nobody_needs_is_closed_after_a_while() {
    let server = SmtpServer::start().await;
    let ctx = worker(&format!("{}&idle_s=1", server.url()));
    done(sent(&ctx, mail()).await);
    tokio::time::timeout(Duration::from_secs(10), server.all_gone()).await.unwrap();
    done(sent(&ctx, mail()).await);
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn no_more_connections_are_opened_than_the_server_is_allowed() {
    let server = SmtpServer::start().await;
    let ctx = worker(&format!("{}&connections=3", server.url()));
    let sends: Vec<_> = (0..30).map(|_| sent(&ctx, mail())).collect();
    futures::future::join_all(sends).await.into_iter().for_each(done);
    assert_eq!(server.received().len(), 30);
    assert!(server.connections() <= 3, "{}", server.connections());
}

#[tokio::test]
async fn a_connection_that_the_server_closed_meanwhile_is_replaced_at_no_cost() {
    let server = SmtpServer::start().await.answering([
        (Step::From, Answer::Accept),
        (Step::From, Answer::Say("421 4.4.2 idle for too long")),
        (Step::From, Answer::Accept),
        (Step::From, Answer::Drop),
    ]);
    let ctx = worker(&server.url());
    for n in 1..=3 {
        done(sent(&ctx, mail()).await);
        assert_eq!(server.received().len(), n);
    }
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn a_temporary_refusal_is_a_retry_and_a_final_one_a_failure_with_its_code() {
    for (step, answer) in [
        (Step::From, Answer::Say("451 4.3.0 try later")),
        (Step::To, Answer::Say("451 4.7.1 greylisted")),
        (Step::Data, Answer::Say("451 4.3.0 not now")),
        (Step::Body, Answer::Say("451 4.3.0 disk full")),
    ] {
        let server = SmtpServer::start().await.answering([(step, answer)]);
        let ctx = worker(&server.url());
        let error = retried(sent(&ctx, mail()).await);
        assert_eq!(error.code, "smtp_451", "{step:?}");
        assert!(error.message.starts_with("451 4."), "{}", error.message);
        done(sent(&ctx, mail()).await); // the server is not held to be down
    }
    for (step, answer) in [
        (Step::From, Answer::Say("550 5.7.1 sender not allowed")),
        (Step::To, Answer::Say("550 5.1.1 no such user")),
        (Step::Data, Answer::Say("554 5.5.1 no valid recipients")),
        (Step::Body, Answer::Say("552 5.3.4 too big")),
    ] {
        let server = SmtpServer::start().await.answering([(step, answer)]);
        let ctx = worker(&server.url());
        let error = failed(sent(&ctx, mail()).await);
        let Answer::Say(reply) = answer else { unreachable!() };
        assert_eq!(error, JobError::new(&format!("smtp_{}", &reply[..3]), reply), "{step:?}");
        done(sent(&ctx, mail()).await);
    }
}

#[tokio::test]
async fn the_attempt_tells_what_the_server_said_and_where() {
    let server = SmtpServer::start().await.answering([(Step::To, Answer::Say("550 5.1.1 no such user"))]);
    let ctx = worker(&server.url());
    let run = run();
    failed(send(mail(), run.clone(), ctx).await.unwrap());
    let tried = &run.noted().unwrap()["tried"][0];
    assert_eq!((&tried["step"], &tried["code"]), (&json!("to"), &json!(550)));
    assert_eq!(tried["answer"], json!("550 5.1.1 no such user"));
}

#[tokio::test]
async fn when_the_first_server_is_down_the_second_takes_the_mail() {
    let second = SmtpServer::start().await;
    let ctx = worker(&format!("smtp://127.0.0.1:{}?tls=none,{}", port_that_nobody_has(), second.url()));
    let first_run = run();
    done(send(mail(), first_run.clone(), ctx.clone()).await.unwrap());
    assert_eq!(first_run.noted().unwrap()["tried"].as_array().unwrap().len(), 2);

    let second_run = run();
    done(send(mail(), second_run.clone(), ctx).await.unwrap());
    let tried = second_run.noted().unwrap()["tried"].clone();
    assert_eq!(tried.as_array().unwrap().len(), 1, "the server that just failed is passed over: {tried}");
    assert_eq!(second.received().len(), 2);
}

#[tokio::test]
async fn a_server_that_says_nothing_or_goodbye_leaves_the_mail_to_the_next() {
    for (step, answer) in [
        (Step::Greeting, Answer::Stall),
        (Step::Hello, Answer::Stall),
        (Step::Greeting, Answer::Say("554 5.3.2 no service here")),
        (Step::Greeting, Answer::Drop),
        (Step::From, Answer::Say("421 4.3.2 shutting down")),
        (Step::To, Answer::Say("450 4.2.0 busy")),
        (Step::To, Answer::Drop),
    ] {
        let (first, second) = (SmtpServer::start().await.answering([(step, answer)]), SmtpServer::start().await);
        let ctx = worker_with(&format!("{},{}", first.url(), second.url()), Duration::from_secs(4));
        done(sent(&ctx, mail()).await);
        assert_eq!((first.received().len(), second.received().len()), (0, 1), "{step:?}");
    }
}

#[tokio::test]
async fn a_refused_recipient_is_not_tried_at_the_next_server() {
    let first = SmtpServer::start().await.answering([(Step::To, Answer::Say("550 5.1.1 no such user"))]);
    let second = SmtpServer::start().await;
    let ctx = worker(&format!("{},{}", first.url(), second.url()));
    failed(sent(&ctx, mail()).await);
    assert_eq!(second.connections(), 0);
}

#[tokio::test]
async fn a_mail_that_may_have_been_taken_is_not_given_to_another_server_at_once() {
    for answer in [Answer::Drop, Answer::Stall] {
        let first = SmtpServer::start().await.answering([(Step::Body, answer)]);
        let second = SmtpServer::start().await;
        let ctx = worker_with(&format!("{},{}", first.url(), second.url()), Duration::from_secs(2));
        retried(sent(&ctx, mail()).await);
        assert_eq!((first.received().len(), second.received().len()), (1, 0), "{answer:?}");
        done(sent(&ctx, mail()).await);
        assert_eq!((first.received().len(), second.received().len()), (1, 1), "the first one rests");
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_a_retry_and_then_left_alone_for_a_moment() {
    let ctx = worker(&format!("smtp://127.0.0.1:{}?tls=none", port_that_nobody_has()));
    let error = retried(sent(&ctx, mail()).await);
    assert_eq!(error.code, "mail_unreachable");
    assert!(error.message.contains("refused"), "{}", error.message);
    assert_eq!(retried(sent(&ctx, mail()).await).code, "mail_unavailable");
}

#[tokio::test]
async fn a_mail_is_never_given_up_because_no_server_was_in_order() {
    let ctx = worker(&format!("smtp://127.0.0.1:{}?tls=none", port_that_nobody_has()));
    for _ in 0..2 {
        let outcome = send(mail(), last_run(), ctx.clone()).await.unwrap();
        assert!(matches!(outcome, Outcome::Snooze(wait) if wait >= Duration::from_secs(60)), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_mail_that_had_its_chance_is_given_up_after_the_last_attempt() {
    for (step, answer) in [(Step::To, Answer::Say("451 4.7.1 greylisted")), (Step::Body, Answer::Stall)] {
        let server = SmtpServer::start().await.answering([(step, answer)]);
        let down = format!("smtp://127.0.0.1:{}?tls=none", port_that_nobody_has());
        let ctx = worker_with(&format!("{},{down}", server.url()), Duration::from_secs(1));
        retried(send(mail(), last_run(), ctx).await.unwrap());
    }
}

#[tokio::test]
async fn a_server_that_stalls_is_a_retry_at_the_deadline_wherever_it_stalls() {
    let stall = async |step| {
        let server = SmtpServer::start().await.answering([(step, Answer::Stall)]);
        let ctx = worker_with(&server.url(), Duration::from_secs(1));
        let started = Instant::now();
        assert_eq!(retried(sent(&ctx, mail()).await).code, "mail_timeout", "{step:?}");
        assert!(started.elapsed() < Duration::from_secs(10), "{step:?} took {:?}", started.elapsed());
    };
    let steps = [Step::Greeting, Step::Hello, Step::From, Step::To, Step::Data, Step::Body];
    futures::future::join_all(steps.map(stall)).await;
}

#[tokio::test]
async fn a_server_that_stalls_at_the_goodbye_does_not_delay_the_answer() {
    let server = SmtpServer::start()
        .await
        .answering([(Step::To, Answer::Say("550 5.1.1 no such user")), (Step::Quit, Answer::Stall)]);
    let ctx = worker(&server.url());
    let outcome = tokio::time::timeout(Duration::from_secs(10), sent(&ctx, mail())).await.unwrap();
    assert_eq!(failed(outcome).code, "smtp_550");
}

#[tokio::test]
async fn a_conversation_that_was_cut_short_is_not_continued_by_the_next_mail() {
    // The server would take what comes next for the rest of the first mail.
    for step in [Step::To, Step::Data, Step::Body] {
        let server = SmtpServer::start().await.answering([(step, Answer::Stall)]);
        let ctx = worker(&server.url());
        let cut = tokio::time::timeout(Duration::from_millis(300), sent(&ctx, mail())).await;
        assert!(cut.is_err(), "{step:?}");
        done(sent(&ctx, mail()).await);
        assert_eq!(server.connections(), 2, "{step:?}");
    }
}

#[tokio::test]
async fn mail_is_encrypted_and_the_login_sent_as_the_url_says() {
    for security in [Security::StartTls, Security::Implicit] {
        let server = SmtpServer::start_with(security).await.with_login("postman", "s3cret");
        let ctx = worker(&server.url());
        done(sent(&ctx, mail()).await);
        let received = server.received().remove(0);
        assert_eq!((received.encrypted, received.user.as_deref()), (true, Some("postman")), "{security:?}");
    }
}

#[tokio::test]
async fn starttls_is_used_when_it_is_offered_and_not_asked_for_otherwise() {
    let server = SmtpServer::start_with(Security::StartTls).await;
    let ctx = worker(&server.url().replace("tls=required", "tls=opportunistic"));
    done(sent(&ctx, mail()).await);
    assert!(server.received()[0].encrypted);

    let server = SmtpServer::start().await;
    let ctx = worker(&format!("smtp://{}", server.addr));
    done(sent(&ctx, mail()).await);
    assert!(!server.received()[0].encrypted);
}

#[tokio::test]
async fn a_server_without_the_encryption_that_is_required_gets_nothing() {
    let server = SmtpServer::start().await;
    let ctx = worker(&format!("smtp://{}?tls=required", server.addr));
    assert_eq!(retried(sent(&ctx, mail()).await).code, "mail_unreachable");

    let server = SmtpServer::start().await.with_login("postman", "s3cret");
    let ctx = worker(&server.url().replace("?tls=none", ""));
    assert_eq!(retried(sent(&ctx, mail()).await).code, "mail_unencrypted");
    assert_eq!(server.received().len(), 0);
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_a_retry() {
    let server = SmtpServer::start_with(Security::Implicit).await;
    let ctx = worker(&format!("smtps://{}", server.addr));
    let error = retried(sent(&ctx, mail()).await);
    assert!(error.code == "mail_unreachable" && error.message.to_lowercase().contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_server_where_we_are_not_welcome_costs_no_mail() {
    let server = SmtpServer::start().await.with_login("postman", "s3cret");
    let ctx = worker(&server.url().replace("s3cret", "wrong"));
    assert_eq!(retried(sent(&ctx, mail()).await).code, "smtp_535");

    let suspended = [(Step::Auth, Answer::Say("550 5.7.0 account suspended"))];
    let server = SmtpServer::start().await.with_login("postman", "s3cret").answering(suspended);
    assert_eq!(retried(sent(&worker(&server.url()), mail()).await).code, "smtp_550");

    let server = SmtpServer::start().await.answering([(Step::From, Answer::Say("530 5.7.0 log in first"))]);
    assert_eq!(retried(sent(&worker(&server.url()), mail()).await).code, "smtp_530");
}

#[tokio::test]
async fn headers_cannot_be_injected() {
    for payload in [
        json!({"to": "ada@example.com\r\nBcc: eve@example.com", "subject": "Hi", "text": "x"}),
        json!({"to": "Ada\r\nBcc: eve@example.com <ada@example.com>", "subject": "Hi", "text": "x"}),
        json!({"to": "ada@example.com", "subject": "Hi\r\nBcc: eve@example.com", "text": "x"}),
        json!({"to": "ada@example.com", "subject": "Hi\nBcc: eve@example.com", "text": "x"}),
    ] {
        assert!(serde_json::from_value::<SendEmail>(payload.clone()).is_err(), "{payload}");
    }
    let server = SmtpServer::start().await;
    let ctx = worker(&server.url());
    let variables = json!({"inviter": "Eve\r\nBcc: eve@example.com", "tenant": "x", "url": "https://x.example", "valid_for_hours": 1});
    let payload = json!({"to": "ada@example.com", "template": "invitation", "variables": variables});
    assert_eq!(failed(sent(&ctx, job(payload)).await).code, "mail_template");

    let smuggled = json!({"to": "ada@example.com", "subject": "Hi",
                          "text": "Hello\r\n.\r\nMAIL FROM:<eve@example.com>\r\nRCPT TO:<bob@example.com>\r\nDATA\r\nx\r\n.\r\n"});
    done(sent(&ctx, job(smuggled)).await);
    let received = server.received();
    assert_eq!(received.len(), 1);
    assert!(received[0].mail.text.as_deref().unwrap().contains("\n.\nMAIL FROM:<eve@example.com>"));
    assert_eq!(received[0].mail.header("Bcc"), None);
}

#[tokio::test]
async fn a_folder_holds_one_file_a_mail_however_often_its_job_runs() {
    let mail_box = MailBox::fresh();
    let ctx = worker(&mail_box.url());
    let twice = run();
    for _ in 0..2 {
        done(send(mail(), twice.clone(), ctx.clone()).await.unwrap());
    }
    done(sent(&ctx, job(json!({"to": "bob@example.com", "subject": "Hi", "text": "Grüße"}))).await);

    let mails = mail_box.mails();
    assert_eq!(mails.len(), 2);
    assert_eq!((mails[0].text.as_deref(), mails[0].html.as_deref()), (Some("Hello"), Some("<p>Hello</p>")));
    assert_eq!(mail_box.mails_to("bob@example.com")[0].text.as_deref(), Some("Grüße"));
    let files = std::fs::read_dir(mail_box.path()).unwrap().count();
    assert_eq!(files, 2, "a draft was left behind");
    std::fs::remove_dir_all(mail_box.path()).unwrap();
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_a_retry() {
    let ctx = worker("file:///proc/millwork");
    assert_eq!(retried(sent(&ctx, mail()).await).code, "mail_folder");
}

#[test]
fn the_job_is_named_as_clients_submit_it() {
    assert_eq!((SendEmail::KIND, SendEmail::QUEUE.as_str()), ("email.send", "email"));
}
