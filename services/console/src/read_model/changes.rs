//! Tells those who wait that something was projected, here or by another console on the same database.

use std::{collections::HashSet, sync::Arc};

use tokio::sync::broadcast;

/// What changed in one transaction.
#[derive(Debug, Clone, Default)]
pub(crate) struct Touched {
    /// Ids of runs.
    pub(crate) runs: Arc<HashSet<String>>,
    /// Ids of signals of people that were handled.
    pub(crate) answers: Arc<HashSet<String>>,
}

/// What somebody waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Topic<'a> {
    Run(&'a str),
    Answer(&'a str),
}

/// Sends [`Touched`] to everybody who waits. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Changes {
    sender: broadcast::Sender<Touched>,
}

impl Default for Changes {
    fn default() -> Self {
        Self { sender: broadcast::channel(1_024).0 }
    }
}

impl Changes {
    pub(crate) fn announce(&self, touched: Touched) {
        // Nobody may be waiting.
        let _ = self.sender.send(touched);
    }

    /// From now on; read the state after this, so that nothing between is missed.
    pub(crate) fn subscribe(&self) -> Subscription {
        Subscription { receiver: self.sender.subscribe() }
    }
}

/// Changes since [`Changes::subscribe`].
pub(crate) struct Subscription {
    receiver: broadcast::Receiver<Touched>,
}

impl Subscription {
    /// Returns when `topic` has changed, or may have: the reader looks again. `false` when the projector is gone.
    pub(crate) async fn next(&mut self, topic: Topic<'_>) -> bool {
        loop {
            match self.receiver.recv().await {
                Ok(touched) => {
                    let hit = match topic {
                        Topic::Run(id) => touched.runs.contains(id),
                        Topic::Answer(id) => touched.answers.contains(id),
                    };
                    if hit {
                        return true;
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => return true,
                Err(broadcast::error::RecvError::Closed) => return false,
            }
        }
    }
}
