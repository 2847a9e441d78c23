//! What operators read in the log, once it is stored.

use cdflow_journal::{Observer, StoredEntry};
use cdflow_protocol::v1::trigger_event::Kind;

use crate::TriggerLedger;

/// Logs every event and every run that is requested.
pub(crate) struct Log;

impl Observer<TriggerLedger> for Log {
    fn stored(&self, entry: &StoredEntry<'_, TriggerLedger>) {
        let project = entry.aggregate_id;
        for event in entry.events {
            match &event.kind {
                Some(Kind::RunRequested(run)) => {
                    let (run_id, pipeline, version) = (&run.run_id, &run.pipeline, &run.version);
                    tracing::info!(
                        project,
                        run = run.number,
                        run_id,
                        pipeline,
                        version,
                        cause = run.cause,
                        "run requested"
                    );
                }
                Some(Kind::EventRecorded(event)) if event.run_numbers.is_empty() => {
                    let (source, id, because) = (&event.source, &event.event_id, &event.ignored_because);
                    tracing::info!(project, source, id, subject = event.subject, because, "event starts nothing");
                }
                Some(Kind::EventRecorded(_)) | None => {}
            }
        }
    }
}
