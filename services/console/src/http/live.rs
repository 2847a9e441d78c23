//! A run as it changes, by server-sent events.

use std::{convert::Infallible, time::Duration};

use axum::{
    Extension,
    extract::{Path, State},
    response::sse::{Event, KeepAlive, Sse},
};
use futures::Stream;

use super::{Failure, Viewer};
use crate::{
    api::{RunStatus, RunView, event},
    console::Console,
    pages,
    read_model::{RunRef, Topic},
};

/// Shortest time between two snapshots: a busy run changes hundreds of times a second, and nobody reads that fast.
const PAUSE: Duration = Duration::from_millis(100);

type Events =
    Sse<axum::response::sse::KeepAliveStream<std::pin::Pin<Box<dyn Stream<Item = Result<Event, Infallible>> + Send>>>>;

/// Whole [`RunView`]s.
pub(super) async fn watch(State(console): State<Console>, Path(run): Path<String>) -> Result<Events, Failure> {
    let first = console.run(&run).await?;
    Ok(events(snapshots(console, first, |run| {
        let json = serde_json::to_string(run).unwrap_or_else(|_| "null".into());
        Event::default().event(event::RUN).id(run.sequence.to_string()).data(json)
    })))
}

/// The changing part of a run's page, for its script.
pub(super) async fn fragments(
    State(console): State<Console>,
    Extension(viewer): Extension<Viewer>,
    Path(run): Path<String>,
) -> Result<Events, Failure> {
    let first = console.run(&run).await?;
    Ok(events(snapshots(console, first, move |run| {
        Event::default().event(event::RUN).data(pages::run_fragment(run, &viewer))
    })))
}

fn events(stream: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Events {
    let stream: std::pin::Pin<Box<dyn Stream<Item = _> + Send>> = Box::pin(stream);
    Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}

enum Next {
    Show(Box<RunView>),
    Wait(Box<RunView>),
    End,
    Nothing,
}

/// One event for each change until the run has ended or the console stops; ends with [`event::END`].
fn snapshots(
    console: Console,
    first: RunView,
    show: impl Fn(&RunView) -> Event + Send + 'static,
) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    let changes = console.changes().subscribe();
    futures::stream::unfold(
        (Next::Show(Box::new(first)), changes, console, show),
        async |(mut next, mut changes, console, show)| {
            loop {
                match next {
                    Next::Show(run) => {
                        let shown = show(&run);
                        let after = if run.status == RunStatus::Finished { Next::End } else { Next::Wait(run) };
                        return Some((Ok(shown), (after, changes, console, show)));
                    }
                    Next::Wait(run) => {
                        let stop = console.stop().clone();
                        tokio::select! {
                            going_on = changes.next(Topic::Run(&run.id)) => {
                                if !going_on {
                                    next = Next::End;
                                    continue;
                                }
                            }
                            () = stop.cancelled() => {
                                next = Next::Nothing;
                                continue;
                            }
                        }
                        tokio::time::sleep(PAUSE).await;
                        let again = console.database().run(console.project(), &RunRef::Id(run.id.clone())).await;
                        next = match again {
                            Ok(Some(changed)) if changed != *run => Next::Show(Box::new(changed)),
                            Ok(_) => Next::Wait(run),
                            Err(error) => {
                                // The client connects again and gets the state then.
                                tracing::warn!(%error, run = %run.id, "reading a watched run");
                                Next::Nothing
                            }
                        };
                    }
                    Next::End => {
                        let end = Event::default().event(event::END).data("{}");
                        return Some((Ok(end), (Next::Nothing, changes, console, show)));
                    }
                    Next::Nothing => return None,
                }
            }
        },
    )
}
