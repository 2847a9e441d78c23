//! Takers that are paused where it hurts, step by step on a real server.
#![allow(clippy::unwrap_used)]

use cdflow_bus::{NewInstallation, Options, install};
use cdflow_protocol::{
    AggregateKind,
    v1::{ApprovalEvent, ApprovalSignal, Refusal},
};
use cdflow_testkit::{NatsServer, SyncMode};

use super::*;
use crate::{Decision, Input};

/// Has no state: only who owns it matters here.
#[derive(Clone, Default)]
struct Blank;

impl Aggregate for Blank {
    const KIND: AggregateKind = AggregateKind::Approval;
    type Signal = ApprovalSignal;
    type Event = ApprovalEvent;

    fn decide(&self, _: &str, _: Input<ApprovalSignal>, _: UnixMillis) -> Result<Decision<ApprovalEvent>, Refusal> {
        Ok(Decision { events: Vec::new(), effects: Vec::new() })
    }
    fn apply(&mut self, _: &ApprovalEvent) {}
    fn deadline(&self) -> Option<UnixMillis> {
        None
    }
    fn outstanding_tasks(&self) -> Vec<String> {
        Vec::new()
    }
    fn is_finished(&self) -> bool {
        false
    }
    fn checkpoint(&self) -> Vec<u8> {
        Vec::new()
    }
    fn restore(_: &[u8]) -> Result<Self, String> {
        Ok(Self)
    }
}

struct Site {
    bus: Bus,
    store: ObjectStore,
    journal: Stream<()>,
    metrics: JournalMetrics,
    _server: NatsServer,
}

impl Site {
    async fn new() -> Self {
        let server = NatsServer::start(SyncMode::Default).await.unwrap();
        let options = Options::new(server.url(), "test");
        install(&options, &NewInstallation::default()).await.unwrap();
        let bus = Bus::connect(&options).await.unwrap();
        let store = bus.context().get_object_store(subjects::SNAPSHOTS_BUCKET).await.unwrap();
        let journal = bus.context().get_stream_no_info(streams::JOURNAL).await.unwrap();
        Self { bus, store, journal, metrics: JournalMetrics::default(), _server: server }
    }

    fn ground<'a>(&'a self, owner: &'a str) -> Ground<'a> {
        Ground {
            bus: &self.bus,
            store: &self.store,
            journal: &self.journal,
            metrics: &self.metrics,
            partition: 0,
            owner,
            known: None,
        }
    }

    async fn take(&self, owner: &str) -> Taken<Blank> {
        self.try_take(owner).await.unwrap_or_else(|_| panic!("{owner} takes over"))
    }

    async fn try_take(&self, owner: &str) -> Result<Taken<Blank>, Interrupted> {
        take_over(&self.ground(owner)).await
    }

    async fn consumers(&self) -> Vec<String> {
        open_signals(&self.bus).await.unwrap().consumer_names().try_collect().await.unwrap()
    }

    async fn tail(&self) -> u64 {
        read_tail(&self.journal, &subjects::journal(Blank::KIND, 0)).await.unwrap().unwrap().sequence
    }
}

#[tokio::test]
async fn a_taker_that_was_paused_before_its_append_leaves_the_partition_to_its_successor() {
    let site = Site::new().await;
    assert_eq!(site.take("first").await.epoch, 1);
    let ground = site.ground("paused");
    let paused = prepare::<Blank>(&ground).await.unwrap_or_else(|_| panic!("nothing was changed yet"));
    assert_eq!(paused.epoch, 2);
    let successor = site.take("successor").await;
    assert_eq!(successor.epoch, 2);

    assert!(matches!(claim(&ground, paused).await, Err(Interrupted::Overtaken)));
    assert_eq!(site.consumers().await, ["own-approval-0-2"], "the successor keeps its consumer");
    assert_eq!(site.tail().await, successor.tail.sequence, "and its history");
}

#[tokio::test]
async fn a_taker_that_reads_a_higher_epoch_than_its_own_stops_fencing() {
    let site = Site::new().await;
    site.take("first").await;
    let ground = site.ground("paused");
    let paused = prepare::<Blank>(&ground).await.unwrap_or_else(|_| panic!("nothing was changed yet"));
    let successor = site.take("successor").await;
    // The successor has appended and not subscribed yet: only the journal tells of it.
    open_signals(&site.bus).await.unwrap().delete_consumer("own-approval-0-2").await.unwrap();

    assert!(matches!(claim(&ground, paused).await, Err(Interrupted::Overtaken)));
    assert_eq!(site.tail().await, successor.tail.sequence);
}

#[tokio::test]
async fn a_commit_of_the_former_owner_in_between_is_read_and_does_not_stop_the_taker() {
    let site = Site::new().await;
    let first = site.take("first").await;
    let ground = site.ground("second");
    let prepared = prepare::<Blank>(&ground).await.unwrap_or_else(|_| panic!("nothing was changed yet"));
    let commit = Commit {
        incarnation: 1,
        epoch: first.epoch,
        previous_sequence: first.tail.sequence,
        previous_hash: first.tail.hash.clone(),
        ..Commit::default()
    };
    let subject = subjects::journal(Blank::KIND, 0);
    let body = Entries::default().close(&commit);
    let (context, at) = (site.bus.context(), first.tail.sequence);
    append(&site.journal, context, &site.metrics, &subject, "late", at, body).await.unwrap();

    let second = claim(&ground, prepared).await.unwrap_or_else(|_| panic!("the former owner is no newer owner"));
    assert_eq!((second.epoch, second.tail.sequence), (2, site.tail().await));
    assert_eq!(site.consumers().await, ["own-approval-0-2"]);
}
