//! Tickets in Redis.

use std::collections::HashMap;
use std::time::Duration;

use millwork_shared::infra::ids::{JobId, TenantId};
use millwork_shared::infra::redis;
use millwork_shared::jobs::dispatch::{Dispatcher, Lane, Share, Ticket, WINDOW};
use millwork_shared::jobs::{Priority, Queue};
use millwork_shared::testing;

const ANY: Share = Share { of: Vec::new(), rest: usize::MAX >> 1 };

fn dispatcher() -> Dispatcher {
    let client = redis::Client::open(&testing::redis_url()).unwrap();
    Dispatcher::with_prefix(redis::connect_lazy(&client).unwrap(), testing::key_prefix())
}

fn ticket(tenant: TenantId, priority: u8) -> Ticket {
    Ticket { tenant, id: JobId::generate(), queue: Queue::Default, priority: Priority::new(priority).unwrap() }
}

#[tokio::test]
async fn tickets_come_by_priority_then_age_and_a_second_offer_changes_nothing() {
    let (dispatcher, tenant) = (dispatcher(), TenantId::generate());
    let (low, high, low_later) = (ticket(tenant, 1), ticket(tenant, 9), ticket(tenant, 1));
    dispatcher.offer_now(&[low_later, low, high]).await.unwrap();
    dispatcher.offer_now(&[high, low]).await.unwrap();
    assert_eq!(dispatcher.take(Queue::Default, 10, &ANY).await.unwrap(), [high, low, low_later]);
    assert!(dispatcher.take(Queue::Default, 10, &ANY).await.unwrap().is_empty());
}

#[tokio::test]
async fn tenants_take_turns_whatever_each_has_waiting() {
    let (dispatcher, flood, quiet) = (dispatcher(), TenantId::generate(), TenantId::generate());
    dispatcher.offer_now(&(0..100).map(|_| ticket(flood, 4)).collect::<Vec<_>>()).await.unwrap();
    dispatcher.offer_now(&[ticket(quiet, 4), ticket(quiet, 4)]).await.unwrap();
    let taken = dispatcher.take(Queue::Default, 4, &ANY).await.unwrap();
    let mut by_tenant: HashMap<TenantId, usize> = HashMap::new();
    taken.iter().for_each(|t| *by_tenant.entry(t.tenant).or_default() += 1);
    assert_eq!(by_tenant, HashMap::from([(flood, 2), (quiet, 2)]));
}

#[tokio::test]
async fn a_tenant_gets_no_more_than_its_share() {
    let (dispatcher, flood, quiet) = (dispatcher(), TenantId::generate(), TenantId::generate());
    dispatcher.offer_now(&(0..20).map(|_| ticket(flood, 4)).collect::<Vec<_>>()).await.unwrap();
    dispatcher.offer_now(&[ticket(quiet, 4)]).await.unwrap();
    let share = Share { of: vec![(flood, 0)], rest: 5 };
    let taken = dispatcher.take(Queue::Default, 10, &share).await.unwrap();
    assert_eq!(taken.iter().map(|t| t.tenant).collect::<Vec<_>>(), [quiet]);
    let taken = dispatcher.take(Queue::Default, 10, &Share { of: vec![], rest: 5 }).await.unwrap();
    assert_eq!(taken.len(), 5);
    assert_eq!(
        dispatcher.take(Queue::Default, 100, &ANY).await.unwrap().len(),
        15,
        "what was passed over is still there"
    );
}

#[tokio::test]
async fn a_lane_holds_a_window_and_asks_for_more_when_it_runs_low() {
    let (dispatcher, tenant) = (dispatcher(), TenantId::generate());
    let tickets: Vec<_> = (0..WINDOW + 10).map(|_| ticket(tenant, 4)).collect();
    dispatcher.offer_now(&tickets).await.unwrap();
    let lane = tickets[0].lane();
    assert_eq!(dispatcher.room(Queue::Default, &[lane]).await.unwrap(), [0]);
    assert_eq!(dispatcher.demands(Queue::Default).await.unwrap(), [lane], "what did not fit is asked for");

    dispatcher.take(Queue::Default, 500, &ANY).await.unwrap();
    dispatcher.offer_now(&[ticket(tenant, 4)]).await.unwrap();
    assert_eq!(dispatcher.room(Queue::Default, &[lane]).await.unwrap(), [500], "intake goes behind the backlog");
    dispatcher.offer_now(&[ticket(tenant, 9)]).await.unwrap();
    assert_eq!(
        dispatcher.take(Queue::Default, 1, &ANY).await.unwrap()[0].priority,
        Priority::MAX,
        "a higher priority does not"
    );

    assert!(dispatcher.demands(Queue::Default).await.unwrap().is_empty());
    dispatcher.take(Queue::Default, 900, &ANY).await.unwrap();
    assert_eq!(dispatcher.demands(Queue::Default).await.unwrap(), [lane], "below half of the window");
    dispatcher.unmark_full(lane).await.unwrap();
    dispatcher.offer_now(&[ticket(tenant, 4)]).await.unwrap();
    let left = WINDOW - 1400 + 1;
    assert_eq!(dispatcher.room(Queue::Default, &[lane]).await.unwrap(), [WINDOW - left]);
}

#[tokio::test]
async fn a_paused_tenant_is_dropped_and_refused_until_it_is_resumed() {
    let (dispatcher, paused, other) = (dispatcher(), TenantId::generate(), TenantId::generate());
    dispatcher.offer_now(&[ticket(paused, 4), ticket(other, 4)]).await.unwrap();
    dispatcher.pause(Queue::Default, paused).await.unwrap();
    dispatcher.offer_now(&[ticket(paused, 4)]).await.unwrap();
    let taken = dispatcher.take(Queue::Default, 10, &ANY).await.unwrap();
    assert_eq!(taken.iter().map(|t| t.tenant).collect::<Vec<_>>(), [other]);
    dispatcher.sync_pauses(Queue::Default, &[]).await.unwrap();
    let lane = Lane { queue: Queue::Default, tenant: paused, priority: Priority::DEFAULT };
    assert!(dispatcher.demands(Queue::Default).await.unwrap().contains(&lane), "the scheduler is asked to refill");
    dispatcher.offer_now(&[ticket(paused, 4)]).await.unwrap();
    assert_eq!(dispatcher.take(Queue::Default, 10, &ANY).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_idle_worker_is_woken_by_an_offer() {
    let dispatcher = dispatcher();
    let client = redis::Client::open(&testing::redis_url()).unwrap();
    let blocking = redis::connect_blocking(&client, Duration::from_secs(20)).unwrap();
    let waiter = {
        let dispatcher = dispatcher.clone();
        async move { dispatcher.wait(&blocking, Queue::Default, Duration::from_secs(20)).await.unwrap() }
    };
    let offer = async { dispatcher.offer_now(&[ticket(TenantId::generate(), 4)]).await.unwrap() };
    let woken = async { tokio::join!(waiter, offer) };
    tokio::time::timeout(Duration::from_secs(10), woken).await.expect("the offer ends the wait");
}
