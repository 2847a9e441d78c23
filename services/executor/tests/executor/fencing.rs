//! Who may change a target.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cdflow_executor::{Error, perform, platform::Attempt};
use cdflow_protocol::v1::{ErrorClass, Fence, Verb};

use crate::site::Site;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_attempt_is_refused_and_changes_nothing() {
    let site = Site::new(2, 1).await;
    let (v1, v2) = (site.release("v1", ""), site.release("v2", ""));
    let old = site.next_fence();
    let before = site.install(&v1).await;
    for (verb, percent) in [(Verb::Stage, 100), (Verb::Shift, 50), (Verb::Promote, 0), (Verb::Retire, 0)] {
        let task = site.task(verb, percent, Some(&v2), Some(&v1));
        let error = perform(&task, &site.attempt(old), &site.surroundings()).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Fenced, "{error}");
    }
    assert_eq!(site.observe().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_attempt_may_come_again_and_a_redelivery_beats_it() {
    let site = Site::with(1, 1, None);
    let v1 = site.release("v1", "");
    let task = site.task(Verb::Stage, 100, Some(&v1), None);
    let first = Fence { incarnation: 1, sequence: 7, delivery: 1 };
    for fence in [first, first, Fence { delivery: 2, ..first }] {
        perform(&task, &site.attempt(fence), &site.surroundings()).await.unwrap();
    }
    let error = perform(&task, &site.attempt(first), &site.surroundings()).await.unwrap_err();
    assert!(error.to_string().contains("1.7.2"), "{error}");
    // A restored journal begins a new incarnation, whose sequences may be lower.
    let restored = Fence { incarnation: 2, sequence: 1, delivery: 1 };
    perform(&task, &site.attempt(restored), &site.surroundings()).await.unwrap();
    assert_eq!(site.processes().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_attempts_at_the_same_time_do_not_mix() {
    let site = Site::new(2, 1).await;
    let v1 = site.release("v1", "");
    let task = site.task(Verb::Stage, 100, Some(&v1), None);
    let (one, two) = (site.attempt(site.next_fence()), site.attempt(site.next_fence()));
    let surroundings = site.surroundings();
    let (first, second) = tokio::join!(perform(&task, &one, &surroundings), perform(&task, &two, &surroundings));
    assert!(second.is_ok());
    assert!(first.is_ok() || first.unwrap_err().class() == ErrorClass::Fenced);
    assert_eq!(site.processes().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_executor_that_lost_its_lease_stops_before_the_next_change() {
    let site = Site::new(2, 1).await;
    let (v1, v2) = (site.release("v1", ""), site.release("v2", ""));
    site.install(&v1).await;
    let allowed = Arc::new(AtomicBool::new(true));
    let permission = allowed.clone();
    let attempt =
        Attempt { may_change: Box::new(move || permission.load(Ordering::SeqCst)), ..site.attempt(site.next_fence()) };
    let task = site.task(Verb::Stage, 100, Some(&v2), Some(&v1));
    let surroundings = site.surroundings();
    let (result, ()) = tokio::join!(perform(&task, &attempt, &surroundings), async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        allowed.store(false, Ordering::SeqCst);
    });
    assert_eq!(result.unwrap_err(), Error::Stopped);
    // Whoever comes next finishes it.
    site.verb(Verb::Stage, 100, &v2, Some(&v1)).await;
    assert_eq!(site.processes().len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_fence_is_not_taken_for_none() {
    let site = Site::with(1, 1, None);
    let v1 = site.release("v1", "");
    site.install(&v1).await;
    let path = site.root().join("host-a/storefront/fence.json");
    std::fs::write(&path, "{").unwrap();
    let error = site.perform(&site.task(Verb::Promote, 0, Some(&v1), None)).await.unwrap_err();
    assert!(error.to_string().contains("fence.json is damaged"), "{error}");
}
