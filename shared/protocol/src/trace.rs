//! Trace and span ids that follow from names: which span of which service is whose parent.
//!
//! A run outlives every process that works on it, so nobody can hold its span open. Ids are derived instead: whoever
//! sees an event that ends something can emit the finished span with the times of the events, and a worker's span has
//! its parent in the task's `traceparent`, even if the parent is emitted later or twice.

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// The trace of a run, 32 hex digits: the one of the CI event if it carried a `traceparent`, else the run id's own 16
/// bytes (run ids are UUIDs), else a hash of the run id.
pub fn trace_id(run: &str, started_by: &str) -> String {
    if let Some((trace, _)) = parse(started_by) {
        return trace.to_owned();
    }
    let digits: String = run.chars().filter(char::is_ascii_hexdigit).collect();
    if digits.len() == 32 && run.chars().all(|c| c.is_ascii_hexdigit() || c == '-') && digits.bytes().any(|b| b != b'0')
    {
        return digits.to_ascii_lowercase();
    }
    format!("{:016x}{:016x}", hash(&["trace", run]), hash(&["run", run]))
}

/// The span that caused the run, if the CI event carried a `traceparent`: the parent of [`run_span`].
pub fn cause_span(started_by: &str) -> Option<&str> {
    parse(started_by).map(|(_, span)| span)
}

/// The span of a run.
pub fn run_span(run: &str) -> String {
    span(&[run])
}

/// The span of a stage; its parent is [`run_span`].
pub fn stage_span(run: &str, stage: &str) -> String {
    span(&[run, stage])
}

/// The span of one attempt of a step; its parent is [`stage_span`].
pub fn step_span(run: &str, stage: &str, step: &str, attempt: u32) -> String {
    span(&[run, stage, step, &attempt.to_string()])
}

/// The span of the trigger's part in a run: from the arrival of the CI event until the run is asked for. Its parent is
/// the span of the CI event, else [`run_span`]: nothing else hangs below it, so a trace without it is still one tree.
pub fn trigger_span(run: &str) -> String {
    span(&["trigger", run])
}

/// The span of a request for approval; its parent is the step's.
pub fn approval_span(approval: &str) -> String {
    span(&["approval", approval])
}

/// The span of one phase of a verification (one attempt at one weight, or the watch); its parent is the step's.
pub fn phase_span(verification: &str, step: &str, attempt: u32) -> String {
    span(&["verification", verification, step, &attempt.to_string()])
}

/// A W3C `traceparent` that makes `span` the parent.
pub fn traceparent(trace: &str, span: &str) -> String {
    format!("00-{trace}-{span}-01")
}

fn span(names: &[&str]) -> String {
    format!("{:016x}", hash(names))
}

/// FNV-1a, 64 bits, with a separator that no name contains; never 0, which is no span id.
fn hash(names: &[&str]) -> u64 {
    let hash = names
        .iter()
        .flat_map(|name| name.bytes().chain([0]))
        .fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
    hash.max(1)
}

/// Trace and span of a `traceparent`, if it is one: <https://www.w3.org/TR/trace-context/#traceparent-header>.
pub fn parse(traceparent: &str) -> Option<(&str, &str)> {
    let mut fields = traceparent.split('-');
    let (version, trace, span) = (fields.next()?, fields.next()?, fields.next()?);
    fields.next()?;
    (version.len() == 2 && version != "ff" && is_id(trace, 32) && is_id(span, 16)).then_some((trace, span))
}

fn is_id(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        && text.bytes().any(|b| b != b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    const CI: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_trace_of_the_ci_event_goes_on() {
        assert_eq!(trace_id("x", CI), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(cause_span(CI), Some("00f067aa0ba902b7"));
    }

    #[test]
    fn without_one_the_run_id_is_the_trace() {
        assert_eq!(trace_id("0192D0C0-7f3a-7c11-8f00-0242ac120002", ""), "0192d0c07f3a7c118f000242ac120002");
        assert_eq!(trace_id("run 7", "").len(), 32);
        assert_eq!(trace_id("00000000-0000-0000-0000-000000000000", "").len(), 32);
    }

    #[test]
    fn a_malformed_traceparent_is_not_used() {
        for bad in ["", "00-4bf9-00f0-01", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "nonsense"] {
            assert_eq!(cause_span(bad), None, "{bad}");
        }
    }

    #[test]
    fn spans_differ_by_name_and_attempt_and_stay_the_same() {
        let all = [
            run_span("r"),
            stage_span("r", "a"),
            step_span("r", "a", "b", 1),
            step_span("r", "a", "b", 2),
            trigger_span("r"),
            approval_span("r.a.b"),
            phase_span("r.a", "b", 1),
            phase_span("r.a", "b", 2),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_ne!(stage_span("r", "ab"), stage_span("ra", "b"));
        // Part of the format: finished spans are emitted from stored events, also by later releases.
        assert_eq!(step_span("r", "prod", "stage", 1), "787de8552512320d");
        assert_eq!(run_span("r").len(), 16);
    }
}
