//! What handlers say while they run, and when it can be read.

use std::time::Instant;

use millwork_shared::infra::ids::JobId;
use millwork_shared::jobs::State;
use millwork_shared::jobs::queries::{self, JobLog};

use super::stage::{PATIENCE, Stage, Step};

impl Stage {
    async fn log(&self, id: JobId) -> JobLog {
        let mut tx = self.world.db.db.tenant(self.world.tenant).await.unwrap();
        queries::read_log(&mut tx, id).await.unwrap()
    }
}

#[tokio::test]
async fn what_a_handler_says_is_seen_while_it_runs() {
    let stage = Stage::set().await;
    let job = stage.play("a", [Step::SayAtTheGate(40, 3)]);
    stage.submit(std::slice::from_ref(&job)).await;
    let _worker = stage.worker(1);
    let began = Instant::now();
    while stage.job(job.id).await.progress.is_none() {
        assert!(began.elapsed() < PATIENCE, "nothing is seen");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let running = stage.job(job.id).await;
    assert_eq!((running.state(), running.progress.as_deref()), (State::Running, Some("40")));
    let log = stage.log(job.id).await;
    let lines: Vec<_> = log.lines.iter().map(|line| (line.attempt, line.message.as_str())).collect();
    assert_eq!((lines, log.dropped), (vec![(1, "line 0"), (1, "line 1"), (1, "line 2")], 0));
    stage.gate.add_permits(1);
    stage.until(job.id, State::Succeeded).await;
    assert_eq!(stage.log(job.id).await.lines.len(), 3, "nothing is written twice");
}

#[tokio::test]
async fn what_a_quick_handler_said_is_there_with_its_outcome() {
    let stage = Stage::set().await;
    let jobs = [
        stage.play("done", [Step::Say(100, 1)]),
        stage.play("much", [Step::Say(7, 130)]),
        stage.play("silent", [Step::Done("1".into())]),
    ];
    stage.submit(&jobs).await;
    let _worker = stage.worker(3);
    // The first look that sees the end must see what was said.
    for (job, progress, lines, dropped) in
        [(&jobs[0], Some("100"), 1, 0), (&jobs[1], Some("7"), 100, 30), (&jobs[2], None, 0, 0)]
    {
        let ended = stage.until(job.id, State::Succeeded).await;
        assert_eq!(ended.progress.as_deref(), progress);
        let log = stage.log(job.id).await;
        assert_eq!((log.lines.len(), log.dropped), (lines, dropped));
    }
    let rows = stage.world.db.sql("select count(*)::text from job_progress").await;
    assert_eq!(rows, [Some("2".to_owned())], "a silent job leaves no row");
}

#[tokio::test]
async fn the_log_goes_on_over_attempts() {
    let stage = Stage::set().await;
    let job = stage.play("a", [Step::SayThenRetry, Step::Say(2, 1)]);
    stage.submit(std::slice::from_ref(&job)).await;
    let _worker = stage.worker(1);
    stage.until(job.id, State::Retrying).await;
    assert_eq!(stage.job(job.id).await.progress.as_deref(), Some("1"));
    stage.again_after(&job, std::time::Duration::from_secs(2)).await;
    let ended = stage.until(job.id, State::Succeeded).await;
    assert_eq!(ended.progress.as_deref(), Some("2"));
    let lines = stage.log(job.id).await.lines;
    let lines: Vec<_> = lines.iter().map(|line| (line.attempt, line.message.as_str())).collect();
    assert_eq!(lines, [(1, "no luck"), (2, "line 0")]);
}
