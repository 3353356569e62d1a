//! Faults of handlers, as Sentry is told of them on loopback.

use millwork_shared::jobs::State;
use millwork_shared::testing::HttpReceiver;
use millwork_shared::testing::sentry::{Report, reporting_to};

use super::stage::{Stage, Step};

#[tokio::test]
async fn a_panic_is_reported_with_its_job_and_its_place_and_without_its_words() {
    let receiver = HttpReceiver::start().await;
    let running = reporting_to(&receiver);
    let stage = Stage::set().await;
    let worker = stage.worker(2);
    let job = stage.play("it", [Step::Panic]);
    stage.submit(std::slice::from_ref(&job)).await;
    stage.until(job.id, State::Retrying).await;
    drop(worker);
    running.flush().await;
    let reports = Report::all(&receiver);
    let of_job: Vec<_> = reports.iter().filter(|report| report.tag("job.id") == job.id.to_string()).collect();
    let [report] = of_job.as_slice() else { panic!("{reports:#?}") };
    assert_eq!(report.event["message"], "a handler panicked");
    for (tag, value) in
        [("process", "test"), ("job.kind", "test.play"), ("job.attempt", "1"), ("error.category", "server")]
    {
        assert_eq!(report.tag(tag), value, "{report:#?}");
    }
    assert!(report.tag("panic.location").contains("stage.rs:"), "{report:#?}");
    let text = report.event.to_string();
    assert!(!text.contains("as told"), "a panic's words may be a payload's: {text}");
}
