//! Wiring: journal in, feed out.

use anyhow::Result;
use cdflow_bus::Bus;
use cdflow_journal::{Positions, ReadCommit, Reader};
use cdflow_protocol::{streams, subjects};
use cdflow_telemetry::health;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use crate::{Feed, FeedEvent, Options, told::Told};

/// Events of one commit that are on their way at the same time.
const IN_FLIGHT: usize = 64;

/// Tells the feed until `stop`.
///
/// # Errors
/// When it cannot start (bus, installation, address, console URL) or the journal is damaged.
pub async fn run(options: Options, bus_options: cdflow_bus::Options, stop: CancellationToken) -> Result<()> {
    options.check()?;
    let bus = Bus::connect(&bus_options.named("notifier")).await?;
    let checks = vec![bus.health()];
    let feed = Feed::new(&bus.installation().id, &options.console_url);
    tokio::try_join!(tell(bus, feed, stop.clone()), health::serve(options.health, checks, stop.clone()))?;
    Ok(())
}

async fn tell(bus: Bus, mut feed: Feed, stop: CancellationToken) -> Result<()> {
    let told = Told::read(&bus).await?;
    // From the first commit, since what live runs said at their start is needed; what was told is left out below.
    let mut reader = Reader::open(bus.clone(), "notifier", Positions::new()).await?;
    loop {
        let commit = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            commit = reader.next() => commit?,
        };
        let events: Vec<_> = feed
            .told(commit.kind, commit.sequence, &commit.commit)
            .into_iter()
            .filter(|event| !told.has(&commit.commit, commit.sequence, &event.id))
            .collect();
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = publish(&bus, &commit, &events) => commit.ack().await,
        }
    }
}

/// Returns when all events are stored. The next commit waits for that, so the feed's end says how far it has come.
async fn publish(bus: &Bus, commit: &ReadCommit, events: &[FeedEvent]) {
    loop {
        let sending: Vec<_> = events.iter().map(|event| store(bus, event)).collect();
        match stream::iter(sending).buffered(IN_FLIGHT).try_collect::<()>().await {
            Ok(()) => return,
            // It has been tried for 30 s already; under the same ids nothing is doubled.
            Err(error) => tracing::warn!(%error, sequence = commit.sequence, "the feed waits"),
        }
    }
}

async fn store(bus: &Bus, event: &FeedEvent) -> Result<(), cdflow_bus::Error> {
    let subject = subjects::event(&event.project, &event.kind);
    let body = event.body.to_string().into();
    bus.publish_stored(streams::EVENTS, &subject, &event.id, &event.traceparent, body).await.map(|_| ())
}
