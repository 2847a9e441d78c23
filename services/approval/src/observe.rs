//! What operators read in the log, once it is stored.

use cdflow_journal::{Observer, StoredEntry};
use cdflow_protocol::v1::approval_event::Kind;

use crate::Approval;

/// Logs requests, decisions and ends. Comments stay in the journal: they may hold anything.
pub(crate) struct Log;

impl Observer<Approval> for Log {
    fn stored(&self, entry: &StoredEntry<'_, Approval>) {
        let approval = entry.aggregate_id;
        let run = entry.state.request().map_or(0, |request| request.run_number);
        for event in entry.events {
            match &event.kind {
                Some(Kind::Requested(_)) => tracing::info!(approval, run, "approval requested"),
                Some(Kind::Decided(decided)) => {
                    let decision = decided.decision.clone().unwrap_or_default();
                    let (person, channel, approve) = (decision.person, decision.channel, decision.approve);
                    tracing::info!(approval, run, person, channel, approve, "decided");
                }
                Some(Kind::Ended(ended)) => {
                    tracing::info!(approval, run, outcome = ended.outcome().word(), "approval ended");
                }
                None => {}
            }
        }
    }
}
