//! Ends that whoever wrote them did not get to tell.

use std::sync::Arc;

use millwork_scheduler::follow;
use millwork_shared::infra::tasks;
use millwork_shared::jobs::Queue;
use millwork_shared::jobs::chains::{OnFailure, Wait};
use millwork_shared::jobs::dispatch::Ticket;
use millwork_shared::jobs::queries;
use tokio::sync::Notify;

use super::Yard;

#[tokio::test]
async fn a_job_whose_predecessor_ended_just_before_its_worker_died_is_released() {
    let yard = Yard::open().await;
    let tenant = yard.tenant().await;
    let [first, forgotten, second, third] = [(); 4].map(|()| Yard::job(tenant));
    yard.store(&[first.clone(), forgotten.clone()]).await;
    let mut tx = yard.test.db.tenant(tenant).await.unwrap();
    queries::enqueue(&mut tx, &[second.clone(), third.clone()]).await.unwrap();
    let after =
        |job: &millwork_shared::jobs::NewJob, id| Wait { job: job.id, after: vec![id], on_failure: OnFailure::Run };
    let waits = [after(&second, first.id), after(&third, forgotten.id)];
    queries::follow(&mut tx, &waits).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    let claimed = yard.claim(yard.worker().await, vec![Ticket::from(&first)]).await;
    assert_eq!(yard.succeed(&claimed).await, 1); // and not a word of it
    yard.test.sql(format!("delete from job_live where id = '{}'", forgotten.id)).await; // nor even an end

    let told =
        tasks::spawn("follow", follow::tell(yard.system.clone(), yard.dispatcher.clone(), Arc::new(Notify::new())));
    let mut due = yard.until(Queue::Default, 2).await;
    due.sort();
    assert_eq!(due, [second.id, third.id]);
    told.abort();
}
