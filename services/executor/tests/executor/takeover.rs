//! Verbs that come over the bus, and executors that are killed in the middle of one.

use cdflow_protocol::v1::{Fence, Outcome, Verb, task::Work};
use cdflow_testkit::{Signal, signal_process};

use crate::{
    installation::{Installation, eventually},
    site::{Site, summary},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verb_tells_what_it_does_and_reports_what_it_left() {
    let (site, installation) = (Site::new(1, 1).await, Installation::new().await);
    let _executor = installation.executor("a");
    let v1 = site.release("v1", "");
    let task = installation.send(Work::Verb(site.task(Verb::Stage, 100, Some(&v1), None))).await;
    let result = installation.result().await;
    assert_eq!(result.outcome(), Outcome::Succeeded, "{}", result.message);
    assert_eq!(summary(result.observation.as_ref().unwrap())["v1"], (1, 0.0));
    let lines: Vec<String> = installation.log_of(&task).await.into_iter().map(|line| line.text).collect();
    assert_eq!(lines[0], "unpacked storefront v1 on host-a");
    assert!(lines[1].starts_with("started storefront v1 on host-a, port "), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_executor_is_followed_by_another_that_starts_nothing_twice() {
    let (site, installation) = (Site::new(2, 1).await, Installation::new().await);
    let mut first = installation.executor("a");
    let slow = site.release("v1", "slow");
    installation.send(Work::Verb(site.task(Verb::Stage, 100, Some(&slow), None))).await;
    eventually("the first process runs", || !site.processes().is_empty()).await;
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    let before = site.processes();
    let _second = installation.executor("b");
    let result = installation.result().await;
    assert_eq!((result.outcome(), result.worker_instance.as_str()), (Outcome::Succeeded, "b"), "{}", result.message);
    assert_eq!(result.fence, Some(Fence { incarnation: 1, sequence: 1, delivery: 2 }));
    let after = site.processes();
    assert_eq!(after.len(), 2);
    assert!(before.iter().all(|process| after.contains(process)), "what had been started goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_executor_that_wakes_up_after_another_took_over_changes_nothing_more() {
    let (site, installation) = (Site::new(2, 1).await, Installation::new().await);
    let first = installation.executor("a");
    let slow = site.release("v1", "slow");
    installation.send(Work::Verb(site.task(Verb::Stage, 100, Some(&slow), None))).await;
    eventually("the first process runs", || !site.processes().is_empty()).await;
    signal_process(first.0.id(), Signal::STOP).unwrap();
    let _second = installation.executor("b");
    // The second gets the task, and waits for the lock that the first still holds.
    tokio::time::sleep(std::time::Duration::from_secs(9)).await;
    signal_process(first.0.id(), Signal::CONT).unwrap();
    let result = installation.result().await;
    assert_eq!(result.outcome(), Outcome::Succeeded, "{}", result.message);
    assert!(result.fence.unwrap().delivery > 1);
    assert_eq!(site.processes().len(), 2);
    assert_eq!(summary(&site.observe().await)["v1"], (2, 0.0));
}
