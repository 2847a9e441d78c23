//! What does not go well is said at once, and leaves nothing behind.

use cdflow_executor::Error;
use cdflow_pipeline::plan::Platform;
use cdflow_protocol::v1::{ErrorClass, Release, Verb};

use crate::site::{Site, summary};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_exits_fails_at_once_with_its_last_lines() {
    let site = Site::new(1, 1).await;
    let v1 = site.release("v1", "");
    let before = site.install(&v1).await;
    let bad = site.release("v2", "exit");
    let begun = std::time::Instant::now();
    let error = site.perform(&site.task(Verb::Stage, 100, Some(&bad), Some(&v1))).await.unwrap_err();
    assert!(begun.elapsed().as_secs() < 15, "it does not wait for the time to be ready");
    assert_eq!(error.class(), ErrorClass::Verification);
    let message = error.to_string();
    assert!(message.contains("v2 on host-a exited") && message.contains("cannot read shop.db"), "{message}");
    assert_eq!(site.observe().await, before);
    assert_eq!(site.processes().len(), 1);
    let log = std::fs::read_dir(site.root().join("host-a/storefront/logs")).unwrap().count();
    assert_eq!(log, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_is_never_ready_is_stopped_again_and_says_what_it_answered() {
    let mut site = Site::new(2, 1).await;
    let Platform::Vm { ready_within_ms, .. } = &mut site.target.platform;
    *ready_within_ms = 1_000;
    let bad = site.release("v1", "unready");
    let error = site.perform(&site.task(Verb::Stage, 100, Some(&bad), None)).await.unwrap_err();
    assert!(matches!(&error, Error::NotReady { answer, .. } if answer.contains("503")), "{error}");
    assert!(site.processes().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_will_not_stop_is_killed() {
    let site = Site::new(1, 1).await;
    let (v1, v2) = (site.release("v1", "stubborn"), site.release("v2", ""));
    site.install(&v1).await;
    let after = site.install(&v2).await;
    assert_eq!(summary(&after).into_keys().collect::<Vec<_>>(), ["v2"]);
    assert_eq!(site.processes().len(), 1);
    assert!(site.has_said("killed: it did not stop"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_artifact_that_was_replaced_is_refused() {
    let site = Site::new(1, 1).await;
    let v1 = Release { digest: format!("sha256:{}", "0".repeat(64)), ..site.release("v1", "") };
    let error = site.perform(&site.task(Verb::Stage, 100, Some(&v1), None)).await.unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::Input);
    assert!(site.processes().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_and_tasks_that_make_no_sense_are_errors() {
    let site = Site::with(1, 1, None);
    let v1 = site.release("v1", "");
    let mut task = site.task(Verb::Stage, 100, Some(&v1), None);
    task.target = b"{}".to_vec();
    assert_eq!(site.perform(&task).await.unwrap_err().class(), ErrorClass::Configuration);
    assert_eq!(
        site.perform(&site.task(Verb::Stage, 100, None, None)).await.unwrap_err().class(),
        ErrorClass::Configuration
    );
    assert_eq!(
        site.perform(&site.task(Verb::Shift, 5, Some(&v1), None)).await.unwrap_err(),
        Error::NothingStaged { release: "v1".into(), service: "storefront".into() }
    );
    for (root, host, start) in [("r", "../evil", "x"), ("r", "", "x"), ("r", "a", ""), ("r", "a", "unclosed \"quote")] {
        let mut target = site.target.clone();
        let Platform::Vm { root: at, hosts, start: line, .. } = &mut target.platform;
        (*at, *hosts, *line) = (root.into(), vec![host.into()], start.into());
        let mut task = site.task(Verb::Stage, 100, Some(&v1), None);
        task.target = serde_json::to_vec(&target).unwrap();
        assert_eq!(site.perform(&task).await.unwrap_err().class(), ErrorClass::Configuration, "{host} {start}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_is_not_there_is_named() {
    let mut site = Site::new(1, 1).await;
    site.haproxy = None;
    let v1 = site.release("v1", "");
    let error = site.perform(&site.task(Verb::Stage, 100, Some(&v1), None)).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Connectivity);
    assert!(error.to_string().contains("admin.sock"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_range_of_ports_is_named() {
    let mut site = Site::with(2, 1, None);
    let Platform::Vm { ports, .. } = &mut site.target.platform;
    ports.1 = ports.0;
    let v1 = site.release("v1", "");
    let error = site.perform(&site.task(Verb::Stage, 100, Some(&v1), None)).await.unwrap_err();
    assert!(matches!(error, Error::NoPort { .. }), "{error}");
}
