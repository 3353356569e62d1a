//! What handlers say while they run, in the ledger.

use std::time::Duration;

use millwork_shared::infra::ids::WorkerId;
use millwork_shared::jobs::queries::{self, Claimed, Ending, LogLine, Report};
use millwork_shared::maintenance::queries as maintenance;
use serde_json::value::to_raw_value;

use super::Ledger;

const DAY: Duration = Duration::from_secs(86_400);

impl Ledger {
    async fn running(&self) -> Claimed {
        let job = self.job();
        self.store(std::slice::from_ref(&job)).await;
        self.claim(self.worker().await, &[job]).await.remove(0)
    }

    fn report(&self, of: &Claimed, progress: Option<u32>, messages: &[&str]) -> Report {
        let line =
            |message: &&str| LogLine { at: self.test.clock.now(), attempt: of.attempt, message: (*message).to_owned() };
        Report {
            tenant: of.tenant,
            id: of.id,
            attempt: of.attempt,
            owner: of.owner,
            progress: progress.map(|n| to_raw_value(&n).unwrap()),
            lines: messages.iter().map(line).collect(),
            line_count: messages.len() as i64,
        }
    }

    async fn save(&self, reports: &mut [Report]) {
        let mut tx = self.system.system_relaxed().await.unwrap();
        queries::save_reports(&mut tx, reports).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Progress and messages.
    async fn said(&self, of: &Claimed) -> (Option<String>, Vec<String>, i64) {
        let mut tx = self.tenant().await;
        let progress = queries::get(&mut tx, of.id).await.unwrap().progress;
        let log = queries::read_log(&mut tx, of.id).await.unwrap();
        (progress, log.lines.into_iter().map(|line| line.message).collect(), log.dropped)
    }
}

fn said(progress: Option<&str>, messages: &[&str], dropped: i64) -> (Option<String>, Vec<String>, i64) {
    (progress.map(str::to_owned), messages.iter().map(|m| (*m).to_owned()).collect(), dropped)
}

#[tokio::test]
async fn only_who_runs_the_attempt_is_listened_to() {
    let ledger = Ledger::create().await;
    let claimed = ledger.running().await;
    let stranger = Report { owner: WorkerId::generate(), ..ledger.report(&claimed, Some(1), &["x"]) };
    let stale = Report { attempt: 0, ..ledger.report(&claimed, Some(1), &["x"]) };
    for refused in [stranger, stale] {
        ledger.save(&mut [refused]).await;
        assert_eq!(ledger.said(&claimed).await, said(None, &[], 0));
    }
    ledger.save(&mut [ledger.report(&claimed, Some(1), &["a\u{1f}b\n\"ä", "b"])]).await;
    ledger.save(&mut [ledger.report(&claimed, None, &["c"])]).await;
    ledger.save(&mut [ledger.report(&claimed, Some(3), &[])]).await;
    let heard = said(Some("3"), &["a\u{1f}b\n\"ä", "b", "c"], 0);
    assert_eq!(ledger.said(&claimed).await, heard);

    // Its lease is gone and another runs the job: what it still says is not heard, also while that has said nothing.
    ledger.test.advance(Duration::from_secs(16)).await;
    ledger.reap().await;
    ledger.save(&mut [ledger.report(&claimed, Some(9), &["late"])]).await;
    assert_eq!(ledger.said(&claimed).await, heard);
    let job = millwork_shared::jobs::NewJob { id: claimed.id, ..ledger.job() };
    let again = ledger.claim(ledger.worker().await, &[job]).await.remove(0);
    ledger.save(&mut [ledger.report(&claimed, Some(9), &["late"]), ledger.report(&again, Some(4), &["d"])]).await;
    assert_eq!(ledger.said(&claimed).await, said(Some("4"), &["a\u{1f}b\n\"ä", "b", "c", "d"], 0));
    ledger.finish(&again, Ending::Succeeded).await;
    ledger.save(&mut [ledger.report(&again, Some(9), &["late"])]).await;
    assert_eq!(ledger.said(&claimed).await.0.unwrap(), "4");
}

#[tokio::test]
async fn the_newest_hundred_lines_are_kept_and_the_rest_is_counted() {
    let ledger = Ledger::create().await;
    let (loud, other) = (ledger.running().await, ledger.running().await);
    for n in 0..5 {
        let messages: Vec<_> = (0..30).map(|m| format!("{}", n * 30 + m)).collect();
        let messages: Vec<_> = messages.iter().map(String::as_str).collect();
        ledger.save(&mut [ledger.report(&loud, None, &messages), ledger.report(&other, Some(n), &[])]).await;
    }
    let (progress, messages, dropped) = ledger.said(&loud).await;
    assert_eq!((progress, messages.len(), dropped), (None, 100, 50));
    assert_eq!((messages[0].as_str(), messages[99].as_str()), ("50", "149"));
    assert_eq!(ledger.said(&other).await, said(Some("4"), &[], 0));
}

#[tokio::test]
async fn it_leaves_with_its_job() {
    let ledger = Ledger::create().await;
    let claimed = ledger.running().await;
    ledger.save(&mut [ledger.report(&claimed, Some(1), &["a"])]).await;
    ledger.finish(&claimed, Ending::Failed).await;
    let rows = async || ledger.test.sql("select count(*)::text from job_progress").await.remove(0).unwrap();
    for (days, left) in [(10, "1"), (30, "0")] {
        ledger.test.advance(DAY * days).await;
        let mut tx = ledger.system.system().await.unwrap();
        maintenance::ensure_partitions(&mut tx, 7).await.unwrap();
        for table in maintenance::ROLLED {
            maintenance::drop_partitions(&mut tx, table, DAY * 30).await.unwrap();
        }
        tx.commit().await.unwrap();
        assert_eq!(rows().await, left);
    }
}
