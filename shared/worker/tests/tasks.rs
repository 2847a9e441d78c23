//! Workers on a real server.
#![allow(clippy::unwrap_used)]

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_nats::jetstream::consumer::pull;
use cdflow_bus::{Bus, NewInstallation, Options, install};
use cdflow_protocol::{
    streams, subjects,
    v1::{
        Announcement, CancelTask, ErrorClass, Fence, Nothing, Outcome, RunSignal, ScriptTask, SignalBatch, Task,
        TaskResult, run_signal, task,
    },
};
use cdflow_testkit::{NatsServer, SyncMode};
use cdflow_worker::{Handler, StopReason, TaskContext, Worker, WorkerOptions, failed, succeeded};
use futures::StreamExt as _;
use prost::Message as _;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// Does what the script of a task says: `ok`, `wait` (until stopped), `wait-first` (the first delivery waits),
/// `panic`, or milliseconds to sleep.
#[derive(Clone, Default)]
struct Performer {
    started: Arc<AtomicUsize>,
    stopped: Arc<Mutex<Vec<StopReason>>>,
}

impl Handler for Performer {
    async fn perform(&self, task: Task, context: TaskContext) -> TaskResult {
        self.started.fetch_add(1, Ordering::SeqCst);
        let script = match task.work {
            Some(task::Work::Script(ScriptTask { script, .. })) => script,
            _ => return succeeded("nothing"),
        };
        match script.as_str() {
            "ok" => {}
            "panic" => panic!("out of tea"),
            "wait-first" if context.delivery > 1 => {}
            "wait" | "wait-first" => {
                context.cancelled.cancelled().await;
                self.stopped.lock().await.push(context.reason().unwrap());
                return failed(ErrorClass::Script, "killed");
            }
            "large" => return succeeded("x".repeat(900 << 10)),
            millis => tokio::time::sleep(Duration::from_millis(millis.parse().unwrap())).await,
        }
        succeeded(format!("delivery {}", context.delivery))
    }
}

struct Site {
    server: NatsServer,
    options: Options,
    bus: Bus,
}

impl Site {
    async fn new(sync: SyncMode) -> Self {
        let server = NatsServer::start(sync).await.unwrap();
        let options = Options::new(server.url(), "test");
        install(&options, &NewInstallation::default()).await.unwrap();
        let bus = Bus::connect(&options).await.unwrap();
        Self { server, options, bus }
    }

    async fn send(&self, task: Task, message_id: &str) {
        let subject = subjects::task(&task.worker, &task.pool, &task.id);
        self.bus.publish_stored(streams::TASKS, &subject, message_id, "", task.encode_to_vec().into()).await.unwrap();
    }

    async fn send_script(&self, id: &str, script: &str) {
        self.send(script_task(id, script, 1), id).await;
    }

    async fn worker(&self, instance: &str) -> Running {
        let bus = Bus::connect(&self.options).await.unwrap();
        let performer = Performer::default();
        let stop = CancellationToken::new();
        let worker = Worker::new(bus, options(instance)).run(performer.clone(), stop.clone());
        Running { performer, stop, handle: tokio::spawn(async move { worker.await.unwrap() }) }
    }

    /// Results as they come, each with the number of the message that carried it.
    async fn results(&self, count: usize) -> Vec<(u64, TaskResult)> {
        let stream = self.bus.context().get_stream(streams::SIGNALS).await.unwrap();
        let consumer = stream
            .get_or_create_consumer(
                "reader",
                pull::Config { durable_name: Some("reader".into()), ..Default::default() },
            )
            .await
            .unwrap();
        let mut found = Vec::new();
        let read = async {
            let mut messages = consumer.messages().await.unwrap();
            while found.len() < count {
                let Some(Ok(message)) = messages.next().await else { continue };
                let number = message.info().unwrap().stream_sequence;
                for signal in SignalBatch::decode(message.payload.clone()).unwrap().signals {
                    let Some(run_signal::Kind::TaskResult(result)) =
                        RunSignal::decode(signal.payload.as_slice()).unwrap().kind
                    else {
                        panic!("a signal that is no result")
                    };
                    found.push((number, result));
                }
                message.ack().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(60), read).await.expect("results within a minute");
        found
    }

    async fn result(&self) -> TaskResult {
        self.results(1).await.remove(0).1
    }

    async fn no_further_result(&self, within: Duration) {
        tokio::time::sleep(within).await;
        let mut stream = self.bus.context().get_stream(streams::SIGNALS).await.unwrap();
        assert_eq!(stream.info().await.unwrap().state.messages, 0);
    }

    async fn until_no_tasks(&self) {
        eventually("TASKS is empty", async || {
            let Ok(mut stream) = self.bus.context().get_stream(streams::TASKS).await else { return false };
            stream.info().await.unwrap().state.messages == 0
        })
        .await;
    }
}

struct Running {
    performer: Performer,
    stop: CancellationToken,
    handle: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        self.handle.await.unwrap();
    }

    async fn until_started(&self, count: usize) {
        eventually("tasks have started", async || self.performer.started.load(Ordering::SeqCst) >= count).await;
    }
}

fn options(instance: &str) -> WorkerOptions {
    WorkerOptions {
        lease: Duration::from_secs(2),
        stop_within: Duration::from_millis(500),
        finish_within: Duration::from_millis(500),
        ..WorkerOptions::new("executor", "default", instance)
    }
}

fn script_task(id: &str, script: &str, sequence: u64) -> Task {
    Task {
        id: id.into(),
        worker: "executor".into(),
        pool: "default".into(),
        reply_aggregate: "run".into(),
        reply_id: "run-1".into(),
        fence: Some(Fence { incarnation: 1, sequence, delivery: 0 }),
        work: Some(task::Work::Script(ScriptTask { script: script.into(), ..Default::default() })),
        ..Default::default()
    }
}

async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), wait).await.is_ok(), "not within a minute: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_done_its_result_stored_and_the_task_removed() {
    let site = Site::new(SyncMode::Default).await;
    let worker = site.worker("a").await;
    site.send_script("t1", "ok").await;
    let result = site.result().await;
    assert_eq!((result.task_id.as_str(), result.outcome()), ("t1", Outcome::Succeeded));
    assert_eq!(result.fence, Some(Fence { incarnation: 1, sequence: 1, delivery: 1 }));
    assert_eq!(result.worker_instance, "a");
    site.until_no_tasks().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_task_of_a_killed_worker_goes_to_another_under_a_higher_fence() {
    let site = Site::new(SyncMode::Default).await;
    let options = site.options.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let victim = Performer::default();
    let performer = victim.clone();
    runtime.spawn(async move {
        let bus = Bus::connect(&options).await.unwrap();
        Worker::new(bus, self::options("victim")).run(performer, CancellationToken::new()).await.unwrap();
    });
    site.send_script("t1", "wait-first").await;
    eventually("the victim is at it", async || victim.started.load(Ordering::SeqCst) == 1).await;
    // Everything stops between two instructions, as with SIGKILL.
    runtime.shutdown_background();

    let worker = site.worker("b").await;
    let result = site.result().await;
    assert_eq!(result.worker_instance, "b");
    assert_eq!(result.fence, Some(Fence { incarnation: 1, sequence: 1, delivery: 2 }));
    site.until_no_tasks().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_server_loses_no_held_task_and_takes_new_ones() {
    let mut site = Site::new(SyncMode::Always).await;
    let worker = site.worker("a").await;
    site.send_script("before", "1500").await;
    worker.until_started(1).await;
    site.server.restart().await.unwrap();
    assert_eq!(site.result().await.task_id, "before");

    // TASKS has been made anew, and begins at sequence 1: no late acknowledgement may remove the wrong task.
    eventually("TASKS is there again", async || site.bus.context().get_stream(streams::TASKS).await.is_ok()).await;
    for number in 0..20 {
        site.send_script(&format!("after-{number}"), "ok").await;
    }
    let mut ids: Vec<_> = site.results(20).await.into_iter().map(|(_, result)| result.task_id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20);
    assert_eq!(worker.performer.started.load(Ordering::SeqCst), 21);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_task_stops_and_says_why() {
    let site = Site::new(SyncMode::Default).await;
    let worker = site.worker("a").await;
    site.send_script("t1", "wait").await;
    worker.until_started(1).await;
    let cancel = CancelTask {
        id: "t1".into(),
        worker: "executor".into(),
        pool: "default".into(),
        reason: "ana stopped the run".into(),
    };
    let subject = subjects::cancellations("executor", "default");
    site.bus.client().publish(subject, cancel.encode_to_vec().into()).await.unwrap();
    let result = site.result().await;
    assert_eq!(result.outcome(), Outcome::Cancelled);
    assert_eq!(result.message, "cancelled: ana stopped the run (killed)");
    site.until_no_tasks().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_over_its_time_limit_fails_with_class_timeout() {
    let site = Site::new(SyncMode::Default).await;
    let worker = site.worker("a").await;
    site.send(Task { timeout_ms: 200, ..script_task("t1", "wait", 1) }, "t1").await;
    let result = site.result().await;
    assert_eq!((result.outcome(), result.error_class()), (Outcome::Failed, ErrorClass::Timeout));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_or_a_result_too_large_fails_its_task_and_no_other() {
    let site = Site::new(SyncMode::Default).await;
    let worker = site.worker("a").await;
    for script in ["panic", "large", "ok"] {
        site.send_script(script, script).await;
    }
    let results: HashMap<String, TaskResult> =
        site.results(3).await.into_iter().map(|(_, result)| (result.task_id.clone(), result)).collect();
    assert_eq!(results["panic"].error_class(), ErrorClass::Unknown);
    assert!(results["panic"].message.contains("out of tea"), "{}", results["panic"].message);
    assert_eq!(results["large"].error_class(), ErrorClass::Input);
    assert_eq!(results["ok"].outcome(), Outcome::Succeeded);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_without_contact_for_a_lease_stops_and_reports_nothing() {
    let site = Site::new(SyncMode::Default).await;
    let worker = site.worker("a").await;
    site.send_script("t1", "wait-first").await;
    worker.until_started(1).await;
    site.server.pause(Duration::from_secs(4)).await.unwrap();
    assert_eq!(*worker.performer.stopped.lock().await, [StopReason::LeaseLost]);
    // Only the second delivery reports.
    let result = site.result().await;
    assert_eq!((result.outcome(), result.fence.unwrap().delivery), (Outcome::Succeeded, 2));
    site.until_no_tasks().await;
    site.no_further_result(Duration::from_millis(200)).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_sent_again_while_underway_is_done_once_and_reported_under_the_newer_fence() {
    let site = Site::new(SyncMode::Default).await;
    let worker = site.worker("a").await;
    site.send(script_task("t1", "1000", 5), "first").await;
    worker.until_started(1).await;
    site.send(script_task("t1", "1000", 9), "second").await;
    let result = site.result().await;
    assert_eq!(result.fence, Some(Fence { incarnation: 1, sequence: 9, delivery: 1 }));
    site.until_no_tasks().await;
    site.no_further_result(Duration::from_millis(300)).await;
    // And once more after its result was stored, as if the acknowledgement had been lost.
    site.send(script_task("t1", "1000", 9), "third").await;
    site.until_no_tasks().await;
    site.no_further_result(Duration::from_millis(300)).await;
    assert_eq!(worker.performer.started.load(Ordering::SeqCst), 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_that_pile_up_are_stored_together_and_each_once() {
    let site = Site::new(SyncMode::Always).await;
    const COUNT: usize = 3_000;
    let sends = (0..COUNT).map(|number| {
        let site = &site;
        async move {
            let id = format!("t{number}");
            let work = Some(task::Work::Nothing(Nothing {}));
            site.send(Task { work, ..script_task(&id, "", 1) }, &id).await;
        }
    });
    futures::stream::iter(sends).buffer_unordered(256).collect::<Vec<()>>().await;
    let worker = site.worker("a").await;
    let results = site.results(COUNT).await;
    let messages: std::collections::BTreeSet<u64> = results.iter().map(|(message, _)| *message).collect();
    let ids: std::collections::BTreeSet<&str> = results.iter().map(|(_, result)| result.task_id.as_str()).collect();
    assert_eq!((results.len(), ids.len()), (COUNT, COUNT));
    assert!(messages.len() < COUNT / 4, "{} messages", messages.len());
    site.until_no_tasks().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_worker_finishes_what_it_can_and_leaves_the_rest_at_once() {
    let site = Site::new(SyncMode::Default).await;
    let first = site.worker("a").await;
    site.send_script("short", "200").await;
    site.send_script("long", "wait-first").await;
    first.until_started(2).await;
    let second = site.worker("b").await;
    first.stop().await;
    let results: HashMap<String, TaskResult> =
        site.results(2).await.into_iter().map(|(_, result)| (result.task_id.clone(), result)).collect();
    assert_eq!(results["short"].worker_instance, "a");
    assert_eq!(results["long"].worker_instance, "b");
    second.stop().await;
}

/// A worker that stops while tasks are being delivered to it hands back those that it has not begun: none waits until
/// the server gives up on the worker, after 4.5 s with these leases.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_on_their_way_to_a_stopping_worker_are_done_by_another_without_a_wait() {
    let site = Site::new(SyncMode::Default).await;
    let mut sent = 0;
    for round in 0..8 {
        let first = site.worker("a").await;
        eventually("it waits for tasks", async || {
            let stream = site.bus.context().get_stream(streams::TASKS).await.unwrap();
            let mut consumers = stream.consumers();
            while let Some(Ok(consumer)) = consumers.next().await {
                if consumer.num_waiting > 0 {
                    return true;
                }
            }
            false
        })
        .await;
        let sends = (0..40).map(|number| {
            let site = &site;
            async move {
                let id = format!("t{round}-{number}");
                site.send_script(&id, "ok").await;
            }
        });
        // Both at once: the stop comes in the middle of the deliveries.
        let (_, ()) = tokio::join!(futures::future::join_all(sends), async {
            tokio::time::sleep(Duration::from_millis(round)).await;
            first.stop.cancel();
        });
        sent += 40;
        first.handle.await.unwrap();
    }
    let stopped = tokio::time::Instant::now();
    let second = site.worker("b").await;
    let mut ids: Vec<_> = site.results(sent).await.into_iter().map(|(_, result)| result.task_id).collect();
    assert!(stopped.elapsed() < Duration::from_secs(4), "some waited: {:?}", stopped.elapsed());
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), sent);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_is_announced_until_its_result_is_stored() {
    let site = Site::new(SyncMode::Default).await;
    let mut heard = site.bus.client().subscribe(subjects::ALL_ANNOUNCEMENTS).await.unwrap();
    let worker = site.worker("a").await;
    site.send_script("t1", "1500").await;
    let mut next = async || {
        let message = tokio::time::timeout(Duration::from_secs(10), heard.next()).await.unwrap().unwrap();
        Announcement::decode(message.payload).unwrap()
    };
    while next().await.task_ids != ["t1"] {}
    site.result().await;
    loop {
        let announcement = next().await;
        assert_eq!(announcement.instance, "a");
        if announcement.task_ids.is_empty() {
            break;
        }
    }
    worker.stop().await;
}
