//! Staying in touch with the server: announcements, progress, the lease, requests to cancel.

use std::time::Duration;

use async_nats::{Subject, connection::State, jetstream::AckKind};
use cdflow_bus::{Bus, Error};
use cdflow_protocol::{
    streams, subjects,
    v1::{Announcement, CancelTask},
};
use futures::StreamExt as _;
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use crate::{
    context::StopReason,
    held::Held,
    intake::Intake,
    lease::{Lease, Moment},
    options::WorkerOptions,
    results::acknowledge,
};

/// Most tasks in one announcement: below a megabyte with the longest ids.
const ANNOUNCED_TOGETHER: usize = 4_000;

pub(crate) struct Contact<'a> {
    pub(crate) bus: &'a Bus,
    pub(crate) options: &'a WorkerOptions,
    pub(crate) held: &'a Held,
    pub(crate) lease: &'a Lease,
    pub(crate) intake: &'a Intake,
}

impl Contact<'_> {
    /// Until `stop`: makes contact again and again; when the lease is lost, everything held must stop.
    pub(crate) async fn keep(&self, stop: &CancellationToken) {
        let every = self.options.contact_every();
        let mut lost = false;
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            if self.lease.is_held() {
                lost = false;
            } else if !lost {
                lost = true;
                self.intake.start_over();
                let stopped = self.held.stop_all(&StopReason::LeaseLost);
                tracing::warn!(tasks = stopped, lease = ?self.options.lease, "no contact for a lease: stopping what was begun");
            }
            // What is published without a connection goes out much later, when it may no longer be true.
            if self.bus.client().connection_state() == State::Connected {
                let sent = Moment::now();
                // A server that reads nothing must not keep the lease from being looked at.
                if tokio::time::timeout(every, self.make()).await.unwrap_or(false) {
                    self.lease.renew(sent);
                }
            }
        }
    }

    /// Whether the server has answered.
    async fn make(&self) -> bool {
        acknowledge(self.bus, self.held.deliveries(), AckKind::Progress).await;
        self.announce().await;
        // The answer comes after the server has read what was sent before on this connection.
        let Some(consumer) = self.intake.consumer_name() else { return false };
        let subject = format!("$JS.API.CONSUMER.INFO.{}.{consumer}", streams::TASKS);
        match self.bus.client().request(subject, "".into()).await {
            Ok(answer) => {
                if answer.payload.windows(11).any(|part| part == b"\"err_code\":") {
                    self.intake.start_over();
                }
                true
            }
            Err(error) => {
                tracing::debug!(%error, "no answer from the server");
                false
            }
        }
    }

    async fn announce(&self) {
        let subject = Subject::from(subjects::announcements(&self.options.worker, &self.options.pool));
        let ids = self.held.ids();
        let mut groups: Vec<Vec<String>> = ids.chunks(ANNOUNCED_TOGETHER).map(<[String]>::to_vec).collect();
        if groups.is_empty() {
            // Says that there is a worker.
            groups.push(Vec::new());
        }
        for task_ids in groups {
            let announcement = Announcement { instance: self.options.instance.clone(), task_ids };
            let sent = self.bus.client().publish(subject.clone(), announcement.encode_to_vec().into()).await;
            if let Err(error) = sent {
                tracing::debug!(%error, "announcing tasks");
            }
        }
    }

    /// Until `stop`: stops tasks that somebody wants to be stopped.
    ///
    /// # Errors
    /// When the subscription is refused.
    pub(crate) async fn heed_cancellations(&self, stop: &CancellationToken) -> Result<(), Error> {
        let subject = subjects::cancellations(&self.options.worker, &self.options.pool);
        let mut requests = self
            .bus
            .client()
            .subscribe(subject.clone())
            .await
            .map_err(|e| Error::Api { what: format!("subscribe to {subject}"), reason: e.to_string() })?;
        while let Some(Some(request)) = stop.run_until_cancelled(requests.next()).await {
            match CancelTask::decode(request.payload) {
                Ok(cancel) => {
                    self.held.stop(&cancel.id, StopReason::Cancelled(cancel.reason));
                }
                Err(error) => tracing::warn!(%error, "a request to cancel cannot be read"),
            }
        }
        Ok(())
    }

    /// Until nothing is held any more, at most for `limit`; whether that was reached.
    pub(crate) async fn until_idle(&self, limit: Duration) -> bool {
        let idle = async {
            while !self.held.is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(limit, idle).await.is_ok()
    }
}
