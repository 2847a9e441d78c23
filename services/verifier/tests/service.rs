//! The whole service on a real server: asked over the bus, it reads real instances and answers over the bus.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::jetstream::consumer::pull;
use axum::{Router, routing::get};
use cdflow_bus::{Bus, NewInstallation, Options as BusOptions, install};
use cdflow_pipeline::plan::Profile;
use cdflow_protocol::{
    AggregateKind, streams, subjects,
    v1::{
        Arm, Basis, BeginPhase, Instance, RunSignal, Signal, SignalBatch, Verdict, VerdictKind, VerificationAnswer,
        VerificationSignal, run_signal, verification_signal,
    },
};
use cdflow_testkit::{NatsServer, SyncMode};
use cdflow_verifier::{Options, run};
use futures::{Stream, StreamExt as _, stream};
use prost::Message as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const ID: &str = "run-1.prod";

/// An instance under load: each look at its metrics finds more requests.
#[derive(Clone, Default)]
struct Load {
    looks: Arc<AtomicU64>,
    failing: Arc<AtomicBool>,
    failed: Arc<AtomicU64>,
}

impl Load {
    fn page(&self) -> String {
        let requests = 50 * (self.looks.fetch_add(1, Ordering::SeqCst) + 1);
        let new_failures =
            if self.failing.load(Ordering::SeqCst) { 10 } else { u64::from(requests.is_multiple_of(100)) };
        let failed = self.failed.fetch_add(new_failures, Ordering::SeqCst) + new_failures;
        format!(
            "http_requests_total{{code=\"200\"}} {}\nhttp_requests_total{{code=\"503\"}} {failed}\n\
             process_start_time_seconds 1700000000\n",
            requests.saturating_sub(failed)
        )
    }

    async fn serve(&self) -> SocketAddr {
        let load = self.clone();
        let router = Router::new().route("/metrics", get(async move || load.page()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }
}

fn begin(step: &str, new: SocketAddr, old: SocketAddr) -> BeginPhase {
    let profile = Profile {
        name: "web".into(),
        path: "/metrics".into(),
        every_ms: 50,
        requests: "http_requests_total".into(),
        errors: r#"http_requests_total{code=~"5.."}"#.into(),
        alpha: 0.01,
        beta: 0.05,
        harmful_odds_ratio: 3.0,
        bake_ms: 500,
        min_ticks: 5,
        min_requests: 100,
        max_error_rate: 0.5,
    };
    let arm = |canary, version: &str, address| Arm {
        canary,
        instances: vec![Instance {
            id: version.into(),
            version: version.into(),
            url: format!("http://{address}"),
            ..Instance::default()
        }],
    };
    BeginPhase {
        run_id: "run-1".into(),
        stage_id: "prod".into(),
        step_id: step.into(),
        attempt: 1,
        profile: serde_json::to_vec(&profile).expect("JSON"),
        arms: vec![arm(true, "v2", new), arm(false, "v1", old)],
        weight: 50,
        within_ms: 60_000,
        watch: false,
        pool: "default".into(),
        traceparent: String::new(),
    }
}

struct World {
    _server: NatsServer,
    options: BusOptions,
    bus: Bus,
}

impl World {
    async fn start() -> Self {
        let server = NatsServer::start(SyncMode::Default).await.expect("a server");
        let options = BusOptions::new(server.url(), "test");
        install(&options, &NewInstallation::default()).await.expect("installed");
        let bus = Bus::connect(&options).await.expect("connected");
        Self { _server: server, options, bus }
    }

    fn verifier(&self) -> (CancellationToken, JoinHandle<anyhow::Result<()>>) {
        let stop = CancellationToken::new();
        (stop.clone(), tokio::spawn(run(Options::default(), self.options.clone(), stop)))
    }

    async fn ask(&self, id: &str, begin: BeginPhase) {
        let payload = VerificationSignal { kind: Some(verification_signal::Kind::Begin(begin)) }.encode_to_vec();
        let signal = Signal { id: id.into(), aggregate_id: ID.into(), payload, version: 1, ..Signal::default() };
        self.bus.send_signals(AggregateKind::Verification, vec![signal]).await.expect("stored");
    }

    /// What is sent to runs, as the engine would take it.
    async fn answers(&self) -> impl Stream<Item = VerificationAnswer> + Unpin + use<> {
        let stream = self.bus.context().get_stream(streams::SIGNALS).await.expect("the stream");
        let filter_subject = subjects::signal(AggregateKind::Run, 0);
        let consumer = stream.create_consumer(pull::Config { filter_subject, ..pull::Config::default() }).await;
        let messages = consumer.expect("a consumer").messages().await.expect("messages");
        Box::pin(messages.flat_map(|message| {
            let message = message.expect("a message");
            let batch = SignalBatch::decode(message.payload.as_ref()).expect("a batch");
            stream::iter(batch.signals.into_iter().map(|signal| decode(&signal)))
        }))
    }
}

async fn next(answers: &mut (impl Stream<Item = VerificationAnswer> + Unpin)) -> VerificationAnswer {
    let answer = tokio::time::timeout(Duration::from_secs(60), answers.next()).await;
    answer.expect("an answer in time").expect("an answer")
}

fn decode(signal: &Signal) -> VerificationAnswer {
    assert_eq!(signal.aggregate_id, "run-1");
    match RunSignal::decode(signal.payload.as_slice()).expect("a signal for a run").kind {
        Some(run_signal::Kind::Verification(answer)) => answer,
        other => panic!("{other:?}"),
    }
}

fn verdict(answer: &VerificationAnswer) -> &Verdict {
    answer.verdict.as_ref().expect("a verdict")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_release_passes_and_one_that_breaks_fails_although_the_service_was_restarted() {
    let world = World::start().await;
    let (new, old) = (Load::default(), Load::default());
    let (new_address, old_address) = (new.serve().await, old.serve().await);
    let mut answers = world.answers().await;

    let (stop, running) = world.verifier();
    world.ask("begin-1", begin("verify-50", new_address, old_address)).await;
    let answer = next(&mut answers).await;
    assert_eq!((answer.step_id.as_str(), answer.attempt), ("verify-50", 1));
    assert_eq!(verdict(&answer).kind(), VerdictKind::Pass, "{}", verdict(&answer).sentence);
    assert_eq!(verdict(&answer).basis(), Basis::Control);

    world.ask("begin-2", begin("verify-100", new_address, old_address)).await;
    stop.cancel();
    running.await.expect("no panic").expect("stopped in good order");

    new.failing.store(true, Ordering::SeqCst);
    let (stop, running) = world.verifier();
    let answer = next(&mut answers).await;
    assert_eq!(answer.step_id, "verify-100");
    assert_eq!(verdict(&answer).kind(), VerdictKind::Fail, "{}", verdict(&answer).sentence);
    assert!(
        verdict(&answer).sentence.starts_with("v2 fails at 50 % of the traffic: "),
        "{}",
        verdict(&answer).sentence
    );
    stop.cancel();
    running.await.expect("no panic").expect("stopped in good order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_that_cannot_be_read_is_the_answer() {
    let world = World::start().await;
    let address = Load::default().serve().await;
    let mut answers = world.answers().await;
    let (stop, running) = world.verifier();
    let mut phase = begin("verify-50", address, address);
    let text = String::from_utf8(phase.profile).expect("UTF-8").replace("\"http_requests_total\"", "\"rate(x[5m])\"");
    phase.profile = text.into_bytes();
    world.ask("begin-1", phase).await;
    let answer = next(&mut answers).await;
    assert_eq!(verdict(&answer).kind(), VerdictKind::Inconclusive);
    assert_eq!(
        verdict(&answer).sentence,
        "undecided: counters cannot be read: the selector of requests in the health profile: the selector `rate(x[5m])` \
         cannot be read at character 5: expected nothing more: functions and ranges are not supported"
    );
    stop.cancel();
    running.await.expect("no panic").expect("stopped in good order");
}
