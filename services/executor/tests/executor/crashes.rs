//! An executor that ends in the middle of a verb, at any instruction, and another that does the rest.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use cdflow_executor::{
    ArtifactCache, Redactor, StepLog, perform,
    platform::{Attempt, Surroundings},
};
use cdflow_protocol::v1::{Fence, Verb, VerbTask};
use prost::Message as _;

use crate::{
    customers::Customers,
    site::{Site, live, summary},
};

const CHILD: &str = "CDFLOW_TEST_VERB";

/// Not a test by itself: the executor that is killed, in a process of its own.
#[tokio::test]
async fn executor_in_a_process_of_its_own() {
    let Ok(instructions) = std::env::var(CHILD) else { return };
    let mut parts = instructions.split(' ');
    let sequence = parts.next().unwrap().parse().unwrap();
    let cache = parts.next().unwrap();
    let task = VerbTask::decode(hex::decode(parts.next().unwrap()).unwrap().as_slice()).unwrap();
    let http = reqwest::Client::new();
    let surroundings =
        Surroundings { artifacts: ArtifactCache::new(cache.into(), http.clone()), http, keep_releases: 3 };
    let (log, _lines) = StepLog::new(Redactor::default(), 1);
    let fence = Fence { incarnation: 1, sequence, delivery: 1 };
    perform(&task, &Attempt { fence, log, may_change: Box::new(|| true) }, &surroundings).await.unwrap();
}

/// Runs a verb in another process and kills that after a while; whether it had come to its end.
async fn killed_after(site: &Site, task: &VerbTask, while_: Duration) -> bool {
    let instructions = format!(
        "{} {} {}",
        site.next_fence().sequence,
        site.directory.path().join("cache").display(),
        hex::encode(task.encode_to_vec())
    );
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crashes::executor_in_a_process_of_its_own"])
        .env(CHILD, instructions)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = tokio::time::Instant::now() + while_;
    while tokio::time::Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return status.success();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    false
}

/// A verb that is killed again and again, each time a little later, until it gets through; then run once more.
async fn through_kills(site: &Site, task: &VerbTask, step: Duration) {
    let mut while_ = Duration::from_millis(5);
    let mut kills = 0;
    while !killed_after(site, task, while_).await {
        kills += 1;
        assert!(kills < 400, "it makes no progress");
        while_ += step;
    }
    site.perform(task).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verbs_that_are_killed_at_any_moment_lead_to_the_same_state() {
    let site = Site::new(2, 1).await;
    let (v1, v2) = (site.release("v1", ""), site.release("v2", ""));
    site.install(&v1).await;
    let customers = Customers::arrive(&site.url());
    let step = Duration::from_millis(17);

    through_kills(&site, &site.task(Verb::Stage, 100, Some(&v2), Some(&v1)), step).await;
    assert_eq!(site.processes().len(), 4, "no process is doubled");
    assert_eq!(summary(&site.observe().await)["v2"], (2, 0.0));

    through_kills(&site, &site.task(Verb::Shift, 25, Some(&v2), Some(&v1)), step).await;
    assert_eq!(summary(&site.observe().await)["v2"], (2, 25.0));

    through_kills(&site, &site.task(Verb::Promote, 0, Some(&v2), Some(&v1)), step).await;
    through_kills(&site, &site.task(Verb::Retire, 0, Some(&v2), Some(&v1)), step).await;
    let after = site.observe().await;
    assert_eq!(summary(&after).into_iter().collect::<Vec<_>>(), [("v2", (2, 100.0))]);
    assert_eq!((live(&after), site.processes().len()), (Some("v2"), 2));
    customers.leave_content().await;
    let leftovers = |path: &str| std::fs::read_dir(site.root().join(path)).unwrap().count();
    assert_eq!(leftovers("host-a/storefront/instances"), 1);
    let servers = site.haproxy.as_ref().unwrap().command("show servers state storefront").unwrap();
    assert_eq!(servers.matches("cdflow-").count(), 2, "{servers}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verbs_that_are_dropped_at_any_moment_lead_to_the_same_state() {
    let site = Site::new(2, 1).await;
    let (v1, v2) = (site.release("v1", ""), site.release("v2", ""));
    let before = site.install(&v1).await;
    let old = site.processes();
    let customers = Customers::arrive(&site.url());
    let surroundings = site.surroundings();
    for round in 0..3_u64 {
        let way = [(Verb::Stage, 100), (Verb::Shift, 50), (Verb::Promote, 0)];
        for (verb, percent) in way {
            let task = site.task(verb, percent, Some(&v2), Some(&v1));
            for pause in 0..12 {
                let attempt = site.attempt(site.next_fence());
                let limit = Duration::from_micros(300 * (pause * pause) * (round + 1));
                let _ = tokio::time::timeout(limit, perform(&task, &attempt, &surroundings)).await;
            }
            site.perform(&task).await.unwrap();
            assert_eq!(site.processes().len(), 4, "{verb:?} in round {round}");
        }
        // And the way back, dropped as well.
        for (verb, percent) in [(Verb::Stage, 100), (Verb::Shift, 100), (Verb::Promote, 0), (Verb::Retire, 0)] {
            let task = VerbTask { rollback: true, ..site.task(verb, percent, Some(&v1), Some(&v2)) };
            for pause in 0..12 {
                let attempt = site.attempt(site.next_fence());
                let limit = Duration::from_micros(300 * (pause * pause) * (round + 1));
                let _ = tokio::time::timeout(limit, perform(&task, &attempt, &surroundings)).await;
            }
            site.perform(&task).await.unwrap();
        }
        assert_eq!(site.observe().await, before, "round {round}");
        assert_eq!(site.processes(), old, "round {round}");
    }
    customers.leave_content().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_release_that_is_killed_at_any_moment_can_be_undone() {
    let site = Site::new(2, 1).await;
    let v1 = site.release("v1", "");
    for (round, verb) in [Verb::Stage, Verb::Shift, Verb::Promote].into_iter().enumerate() {
        for milliseconds in [20, 60, 110, 190, 300] {
            if round > 0 {
                site.verb(Verb::Stage, 100, &v1, None).await;
            }
            killed_after(&site, &site.task(verb, 100, Some(&v1), None), Duration::from_millis(milliseconds)).await;
            let task = VerbTask { rollback: true, ..site.task(Verb::Retire, 0, None, Some(&v1)) };
            while !killed_after(&site, &task, Duration::from_millis(400 + milliseconds)).await {}
            let after = site.observe().await;
            assert!(after.instances.is_empty() && after.live.is_none(), "{after:?}");
            assert!(site.processes().is_empty());
        }
    }
}
