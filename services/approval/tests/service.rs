//! Approvals on a real server: asked over the bus, answered to the run.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, SystemTime};

use cdflow_approval::Options;
use cdflow_bus::{Bus, NewInstallation, Options as BusOptions};
use cdflow_protocol::{
    AggregateKind, streams,
    v1::{
        ApprovalAnswer, ApprovalSignal, Commit, Decide, Handled, Outcome, RequestApproval, RunSignal, Signal,
        SignalBatch, approval_signal::Kind, run_signal,
    },
};
use cdflow_testkit::{NatsServer, SyncMode};
use prost::Message as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

struct Installed {
    bus: Bus,
    options: BusOptions,
    _server: NatsServer,
}

impl Installed {
    async fn new() -> Self {
        let server = NatsServer::start(SyncMode::Default).await.unwrap();
        let options = BusOptions::new(server.url(), "test");
        cdflow_bus::install(&options, &NewInstallation::default()).await.unwrap();
        let bus = Bus::connect(&options).await.unwrap();
        Self { bus, options, _server: server }
    }

    fn serve(&self, stop: &CancellationToken) -> JoinHandle<anyhow::Result<()>> {
        tokio::spawn(cdflow_approval::run(Options::default(), self.options.clone(), stop.clone()))
    }

    async fn send(&self, id: &str, approval: &str, kind: Kind) {
        let payload = ApprovalSignal { kind: Some(kind) }.encode_to_vec();
        let signal = Signal { id: id.into(), aggregate_id: approval.into(), payload, ..Default::default() };
        self.bus.send_signals(AggregateKind::Approval, vec![signal]).await.unwrap();
    }

    async fn messages(&self, stream: &str) -> Vec<Vec<u8>> {
        let mut stream = self.bus.context().get_stream(stream).await.unwrap();
        let state = stream.info().await.unwrap().state.clone();
        let mut bodies = Vec::new();
        for sequence in state.first_sequence..=state.last_sequence {
            // A gap is a signal that somebody has taken.
            if let Ok(message) = stream.get_raw_message(sequence).await {
                bodies.push(message.payload.to_vec());
            }
        }
        bodies
    }

    /// The answer to the run: nobody takes it here.
    async fn answer(&self, approval: &str) -> ApprovalAnswer {
        let begun = tokio::time::Instant::now();
        loop {
            for body in self.messages(streams::SIGNALS).await {
                for signal in SignalBatch::decode(body.as_slice()).unwrap().signals {
                    if let Ok(RunSignal { kind: Some(run_signal::Kind::Approval(answer)) }) =
                        RunSignal::decode(signal.payload.as_slice())
                        && answer.approval_id == approval
                        && signal.aggregate_id == "run-1"
                    {
                        return answer;
                    }
                }
            }
            assert!(begun.elapsed() < PATIENCE, "no answer about {approval}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    async fn handled(&self, signal_id: &str) -> Handled {
        let begun = tokio::time::Instant::now();
        loop {
            for body in self.messages(streams::JOURNAL).await {
                let entries = Commit::decode(body.as_slice()).unwrap().entries;
                if let Some(handled) =
                    entries.into_iter().flat_map(|entry| entry.handled).find(|h| h.signal_id == signal_id)
                {
                    return handled;
                }
            }
            assert!(begun.elapsed() < PATIENCE, "{signal_id} is not handled");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn request(expires_ms: i64) -> Kind {
    Kind::Request(RequestApproval {
        run_id: "run-1".into(),
        stage_id: "gate".into(),
        step_id: "approve".into(),
        by: [("sre".to_owned(), 1)].into(),
        expires_ms,
        ..Default::default()
    })
}

fn decide(person: &str, group: &str) -> Kind {
    Kind::Decide(Decide { person: person.into(), groups: vec![group.into()], approve: true, ..Default::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_reaches_the_run_and_a_refused_one_says_why() {
    let installed = Installed::new().await;
    let stop = CancellationToken::new();
    let service = installed.serve(&stop);
    installed.send("s1", "run-1.gate.approve", request(0)).await;
    installed.send("s2", "run-1.gate.approve", decide("eve", "office")).await;
    let refusal = installed.handled("s2").await.refusal.expect("it is refused");
    assert_eq!(
        (refusal.code.as_str(), refusal.message.as_str()),
        ("not-eligible", "eve may not decide this: it takes a member of sre")
    );
    installed.send("s3", "run-1.gate.approve", decide("ana", "sre")).await;
    let answer = installed.answer("run-1.gate.approve").await;
    assert_eq!((answer.outcome(), answer.decisions), (Outcome::Succeeded, vec!["ana: approved".to_owned()]));
    stop.cancel();
    tokio::time::timeout(PATIENCE, service).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_expires_also_when_its_owner_was_killed_meanwhile() {
    let installed = Installed::new().await;
    let stop = CancellationToken::new();
    let first = installed.serve(&stop);
    installed.send("s1", "run-1.gate.approve", request(now() + 1_000)).await;
    installed.handled("s1").await;
    first.abort();
    installed.serve(&stop);
    let answer = installed.answer("run-1.gate.approve").await;
    assert_eq!(answer.outcome(), Outcome::Expired);
    assert_eq!(answer.decisions, ["nobody decided in time: 0 of 1 approvals by sre"]);
    stop.cancel();
}
