//! Scripts: what they give back, what is published of them, and how they end.

use std::{collections::BTreeMap, time::Duration};

use cdflow_executor::process;
use cdflow_protocol::{
    streams, subjects,
    v1::{CancelTask, ErrorClass, LogLine, OnCrash, Outcome, ScriptTask, Task, task::Work},
};
use prost::Message as _;

use crate::installation::{Installation, eventually};

fn script(text: &str) -> ScriptTask {
    ScriptTask { script: text.into(), on_crash: OnCrash::Repeat.into(), ..Default::default() }
}

fn texts(lines: &[LogLine]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_short_lines_are_cut_off_before_their_storing_takes_longer_than_the_script() {
    let installation = Installation::new().await;
    let _executor = installation.executor("a");
    installation.send_script(script("seq 1 400000; echo is=done >> $CDFLOW_OUTPUT")).await;
    let result = installation.result().await;
    assert_eq!((result.outcome(), result.outputs["is"].as_str()), (Outcome::Succeeded, "done"), "{}", result.message);
    let mut stream = installation.bus.context().get_stream(streams::LOGS).await.unwrap();
    let last = stream.info().await.unwrap().state.last_sequence;
    assert!(last < 70_000, "{last} lines");
    let line = LogLine::decode(stream.get_raw_message(last).await.unwrap().payload).unwrap();
    assert!(line.text.contains("more output than is kept"), "{line:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_replaces_its_output_file_fails_and_holds_nobody_up() {
    let installation = Installation::new().await;
    let _executor = installation.executor("a");
    for (replaced, said) in
        [("mkfifo", "no file any more"), ("ln -s /etc/hostname", "cannot be read"), (":", "cannot be read")]
    {
        let text = format!(r#"rm "$CDFLOW_OUTPUT"; {replaced} "$CDFLOW_OUTPUT""#);
        let (result, _) = installation.run_script(script(&text)).await;
        assert_eq!((result.outcome(), result.error_class()), (Outcome::Failed, ErrorClass::Input));
        assert!(result.message.contains("CDF-5104") && result.message.contains(said), "{}", result.message);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_gives_outputs_and_its_lines_are_numbered() {
    let installation = Installation::new().await;
    let _executor = installation.executor("a");
    let text = r#"
        echo "key $CDFLOW_STEP_KEY, attempt $CDFLOW_ATTEMPT"
        echo trouble >&2
        echo "digest=sha256:1" >> "$CDFLOW_OUTPUT"
        printf 'notes<<END\none\ntwo\nEND\n' >> "$CDFLOW_OUTPUT"
        test -z "${CDFLOW_NATS:-}" -a "$(ls -A | wc -l)" = 0
    "#;
    let (result, lines) = installation.run_script(script(text)).await;
    assert_eq!(result.outcome(), Outcome::Succeeded, "{}", result.message);
    let outputs = [("digest", "sha256:1"), ("notes", "one\ntwo")];
    assert_eq!(result.outputs, outputs.into_iter().map(|(k, v)| (k.into(), v.into())).collect());
    let mut found = texts(&lines);
    found.sort_unstable();
    assert_eq!(found, ["key run-1.prod.step-1, attempt 1", "trouble"]);
    assert_eq!(lines.iter().map(|line| line.number).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(lines.iter().filter(|line| line.stderr).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_say_what_happened_and_malformed_outputs_where() {
    let installation = Installation::new().await;
    let _executor = installation.executor("a");
    let (result, _) = installation.run_script(script("echo checking; echo 'no such table' >&2; exit 7")).await;
    assert_eq!((result.outcome(), result.error_class()), (Outcome::Failed, ErrorClass::Script));
    assert!(result.message.contains("exit code 7") && result.message.contains("no such table"), "{}", result.message);
    let (result, _) = installation.run_script(script("echo $undefined")).await;
    assert_eq!(result.error_class(), ErrorClass::Script, "an undefined variable is an error");
    let (result, _) = installation.run_script(script("echo nonsense > $CDFLOW_OUTPUT")).await;
    assert_eq!(result.error_class(), ErrorClass::Input);
    assert!(result.message.contains("line 1"), "{}", result.message);
    let (result, _) = installation.run_script(script("head -c 40000 /dev/zero | tr '\\0' x > $CDFLOW_OUTPUT")).await;
    assert_eq!(result.error_class(), ErrorClass::Input, "{}", result.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_nowhere_in_what_is_published() {
    let installation = Installation::new().await;
    let _executor = installation.executor("a");
    let task = ScriptTask {
        environment: BTreeMap::from([("DB_PASSWORD".into(), "hunter22".into())]),
        ..script(
            "echo \"using $DB_PASSWORD and $DEPLOY_TOKEN\"; echo \"dsn=me:$DB_PASSWORD@db\" >> $CDFLOW_OUTPUT; \
             head -c 16380 /dev/zero | tr '\\0' x; echo $DB_PASSWORD$DB_PASSWORD; \
             test \"$CDFLOW_ATTEMPT\" = 2 || { echo \"cannot log in with $DB_PASSWORD\"; exit 1; }",
        )
    };
    let (result, lines) = installation.run_script(task).await;
    assert!(result.message.contains("cannot log in with ***"), "{}", result.message);
    assert_eq!(lines[0].text, "using *** and ***");
    let published = format!("{result:?}{lines:?}");
    for part in ["hunter22", "hunter", "token-of-the-executor"] {
        assert!(!published.contains(part), "{part}");
    }
    let task = ScriptTask {
        environment: BTreeMap::from([("DB_PASSWORD".into(), "hunter22".into())]),
        ..script("echo \"dsn=me:$DB_PASSWORD@db\" >> $CDFLOW_OUTPUT")
    };
    let (result, _) = installation.run_script(task).await;
    assert_eq!(result.outputs["dsn"], "me:***@db");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_output_and_endless_lines_are_cut() {
    let installation = Installation::new().await;
    let _executor = installation.executor("a");
    let (result, lines) =
        installation.run_script(script("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end")).await;
    assert_eq!(result.outcome(), Outcome::Succeeded);
    assert_eq!(lines.len(), 2);
    assert!(lines[0].text.len() < 20_000 && lines[0].text.ends_with("... (cut)"));
    assert_eq!(lines[1].text, "end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_script_leaves_in_the_background_does_not_hold_the_step_up_and_is_killed() {
    let installation = Installation::new().await;
    let _executor = installation.executor("a");
    let (result, lines) = installation.run_script(script("sleep 1000 & echo done")).await;
    assert_eq!((result.outcome(), texts(&lines)), (Outcome::Succeeded, vec!["done"]));
    eventually("nothing is left", || process::with_variable("CDFLOW_TASK", &result.task_id).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_ends_the_whole_process_group() {
    let installation = Installation::new().await;
    let _executor = installation.executor("a");
    let task =
        installation.send_script(script("trap '' TERM; sh -c 'sleep 1000' & echo waiting; wait; sleep 1000")).await;
    eventually("it runs", || process::with_variable("CDFLOW_TASK", &task.id).len() >= 2).await;
    let cancel =
        CancelTask { id: task.id.clone(), worker: "executor".into(), pool: "default".into(), reason: "by bo".into() };
    let subject = subjects::cancellations("executor", "default");
    installation.bus.client().publish(subject, cancel.encode_to_vec().into()).await.unwrap();
    let result = installation.result().await;
    assert_eq!(result.outcome(), Outcome::Cancelled, "{result:?}");
    assert_eq!(result.message, "cancelled: by bo (its last line: waiting)");
    assert!(process::with_variable("CDFLOW_TASK", &task.id).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_a_script_is_repeated_only_if_it_may_be() {
    let installation = Installation::new().await;
    let mut first = installation.executor("a");
    let trace = installation.directory.path().join("trace");
    let text = format!("echo run >> {0}; test $(wc -l < {0}) -gt 2 || sleep 1000", trace.display());
    let repeated = installation.send_script(script(&text)).await;
    let once = installation.send_script(ScriptTask { on_crash: OnCrash::Fail.into(), ..script(&text) }).await;
    eventually("both run", || std::fs::read_to_string(&trace).is_ok_and(|text| text.lines().count() == 2)).await;
    first.0.kill().unwrap();
    first.0.wait().unwrap();

    let _second = installation.executor("b");
    let results = [installation.result().await, installation.result().await];
    let of = |task: &Task| results.iter().find(|result| result.task_id == task.id).unwrap();
    assert_eq!(of(&repeated).outcome(), Outcome::Succeeded);
    assert_eq!(of(&once).error_class(), ErrorClass::ExecutorLost);
    assert_eq!(std::fs::read_to_string(&trace).unwrap().lines().count(), 3, "one was repeated, the other not");
    for task in [&repeated, &once] {
        assert!(process::with_variable("CDFLOW_TASK", &task.id).is_empty(), "what was left is gone");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_delivery_of_a_task_that_was_sent_again_is_begun_only_if_it_may_be_repeated() {
    let installation = Installation::new().await;
    let _executor = installation.executor("a");
    let trace = installation.directory.path().join("trace");
    let text = format!("echo run >> {}", trace.display());
    let once = ScriptTask { on_crash: OnCrash::Fail.into(), ..script(&text) };
    let once = installation.send_as(Work::Script(once), true).await;
    let result = installation.result().await;
    assert_eq!((&result.task_id, result.error_class()), (&once.id, ErrorClass::ExecutorLost));
    assert!(!trace.exists(), "nobody can say that it was not run before");
    installation.send_as(Work::Script(script(&text)), true).await;
    assert_eq!(installation.result().await.outcome(), Outcome::Succeeded);
    assert!(trace.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_executor_without_contact_kills_its_scripts() {
    let installation = Installation::new().await;
    let _executor = installation.executor("a");
    let task = installation.send_script(ScriptTask { on_crash: OnCrash::Fail.into(), ..script("sleep 1000") }).await;
    eventually("it runs", || !process::with_variable("CDFLOW_TASK", &task.id).is_empty()).await;
    installation.server.pause(Duration::from_secs(3)).await.unwrap();
    assert!(process::with_variable("CDFLOW_TASK", &task.id).is_empty());
    let result = installation.result().await;
    assert_eq!((result.error_class(), result.fence.unwrap().delivery), (ErrorClass::ExecutorLost, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_executor_ends_in_good_order() {
    let installation = Installation::new().await;
    let mut executor = installation.executor("a");
    let task = installation.send_script(script("sleep 1; echo late")).await;
    eventually("it runs", || !process::with_variable("CDFLOW_TASK", &task.id).is_empty()).await;
    cdflow_testkit::signal_process(executor.0.id(), cdflow_testkit::Signal::TERM).unwrap();
    let result = installation.result().await;
    assert_eq!((result.outcome(), result.worker_instance.as_str()), (Outcome::Succeeded, "a"));
    assert!(executor.0.wait().unwrap().success());
}
