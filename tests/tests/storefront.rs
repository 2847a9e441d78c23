//! The main job: a CI event becomes a verified production release, and a bad one is taken back.
//!
//! Drives what `make up`, `make good-release` and `make bad-release` drive, while customers send requests through the
//! router the whole time.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use cdflow_console::api::{Basis, Outcome, RunStatus, RunView, StageView, VerdictKind, VerdictView};
use cdflow_tests::{Shop, Suite, SuiteOptions};

const MINUTE: Duration = Duration::from_secs(60);

fn stage<'a>(run: &'a RunView, id: &str) -> &'a StageView {
    run.stages.iter().find(|stage| stage.id == id).unwrap_or_else(|| panic!("a stage {id}"))
}

fn verdicts(stage: &StageView) -> Vec<&VerdictView> {
    stage.steps.iter().filter_map(|step| step.verdict.as_ref()).collect()
}

fn waits_for_approval(run: &RunView) -> bool {
    run.status == RunStatus::Waiting && run.approvals.iter().any(|approval| approval.outcome.is_none())
}

fn is_live_or_over(run: &RunView) -> bool {
    run.status == RunStatus::Watching || run.outcome.is_some()
}

#[tokio::test]
async fn a_ci_event_becomes_a_verified_production_release_and_a_bad_one_is_taken_back() {
    let shop = Shop::open().unwrap();
    let suite = Suite::start(&shop, &SuiteOptions::default()).await.unwrap();
    suite.done(&["apply", "cdflow"]).unwrap();
    suite.log_in("ana").unwrap();
    let customers = shop.customers("prod", 300, "production").unwrap();
    let testers = shop.customers("staging", 40, "testers").unwrap();

    // The first release: nothing to compare with, so guards decide.
    assert_eq!(suite.publish(&shop, "v1.0.0").await.unwrap(), 202);
    let run = suite.until("1", 5 * MINUTE, "waiting for approval", waits_for_approval).await.unwrap();
    for id in ["dev", "qa", "staging"] {
        assert_eq!(stage(&run, id).outcome, Some(Outcome::Succeeded), "{id}");
    }
    assert!(verdicts(stage(&run, "staging")).iter().all(|verdict| verdict.basis == Basis::Guards));

    // Somebody without the right is told so, and nothing changes.
    suite.log_in("bo").unwrap();
    let refused = suite.cdflow(&["approve", "1", "--no-watch"]).unwrap();
    assert_eq!(refused.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("release-managers"));

    suite.log_in("ana").unwrap();
    suite.done(&["approve", "1", "--no-watch", "--comment", "first one"]).unwrap();
    let run = suite.until("1", 10 * MINUTE, "live", is_live_or_over).await.unwrap();
    assert_eq!(run.status, RunStatus::Watching, "{}", run.reason);
    assert!(verdicts(stage(&run, "prod")).iter().all(|verdict| verdict.basis == Basis::Guards));

    // The same event again is the same event; the same artifact from another build starts nothing, and says why.
    assert_eq!(suite.publish(&shop, "v1.0.0").await.unwrap(), 202);
    assert_eq!(suite.publish_as(&shop, "v1.0.0", "2").await.unwrap(), 202);

    // A good release: canary against control.
    assert_eq!(suite.publish(&shop, "v1.1.0").await.unwrap(), 202);
    suite.until("2", 5 * MINUTE, "waiting for approval", waits_for_approval).await.unwrap();
    suite.done(&["approve", "2", "--no-watch"]).unwrap();
    let run = suite.until("2", 10 * MINUTE, "live", is_live_or_over).await.unwrap();
    assert_eq!(run.status, RunStatus::Watching, "{}", run.reason);
    let prod = verdicts(stage(&run, "prod"));
    assert_eq!(prod.len(), 3, "one verdict at each weight");
    assert!(prod.iter().all(|verdict| verdict.kind == VerdictKind::Pass && verdict.basis == Basis::Control));
    let first = suite.until("1", MINUTE, "superseded", |run| run.outcome.is_some()).await.unwrap();
    assert_eq!(first.outcome, Some(Outcome::Succeeded));
    assert!(stage(&first, "prod").reason.contains("superseded"), "{}", stage(&first, "prod").reason);

    // A bad release: its fault shows only in production.
    assert_eq!(suite.publish(&shop, "v1.2.0").await.unwrap(), 202);
    let run = suite.until("3", 5 * MINUTE, "waiting for approval", waits_for_approval).await.unwrap();
    assert_eq!(stage(&run, "staging").outcome, Some(Outcome::Succeeded));
    suite.done(&["approve", "3", "--no-watch"]).unwrap();
    let run = suite.until("3", 5 * MINUTE, "taken back", |run| run.outcome.is_some()).await.unwrap();
    assert_eq!(run.outcome, Some(Outcome::RolledBack), "{}", run.reason);
    let prod = verdicts(stage(&run, "prod"));
    assert_eq!(prod.len(), 1, "it did not get beyond 5 %");
    assert_eq!(prod[0].kind, VerdictKind::Fail);
    assert!(prod[0].sentence.contains("v1.2.0"), "{}", prod[0].sentence);
    let live = reqwest::get(format!("{}/version", shop.url("prod").unwrap())).await.unwrap().text().await.unwrap();
    assert_eq!(live.trim(), "v1.1.0");

    // What people look at holds together.
    let board = suite.done(&["board"]).unwrap();
    assert!(board.contains("storefront") && board.contains("v1.1.0"), "{board}");
    let log = suite.done(&["trigger", "log"]).unwrap();
    assert!(log.contains("already, in run 1"), "the repeated artifact says why it started nothing:\n{log}");
    assert!(suite.done(&["logs", "3", "--stage", "qa"]).unwrap().contains("v1.2.0"));
    assert!(suite.done(&["explain", "3"]).unwrap().contains("v1.2.0"));
    suite.done(&["journal", "verify"]).unwrap();

    for (who, customers) in [("customers", &customers), ("testers", &testers)] {
        let report = customers.settled_report().await;
        assert!(report.answered > 1_000, "{who}: {report:?}");
        assert_eq!(report.lost_on_the_way, 0, "{who} lost requests at a switch: {report:?}");
    }
}
