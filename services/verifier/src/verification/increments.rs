//! From raw totals to what happened between two readings.
//!
//! Nothing is made up. A stratum of the comparison spans the same time for every instance in it: when one could not be
//! read, the stratum stays open until all can be read again, and when one has restarted, it is thrown away. What *was*
//! counted in such a time still goes to the guards.

use std::collections::{BTreeMap, HashMap};

use cdflow_evidence::{MAX_EXPOSURE, Stratum};
use cdflow_protocol::v1::{Reading, Readings};

use super::state::{InstanceCounters, Phase, Tally, Totals};

/// Readings in a row without an answer after which an instance has no part in the comparison any more.
pub(crate) const GONE_AFTER: u32 = 3;

/// Largest total that a double holds exactly.
const LARGEST_TOTAL: f64 = 9_007_199_254_740_992.0;

/// Seconds by which two statements of a process about its own start may differ.
const SAME_START: f64 = 0.5;

/// A stratum that has closed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Closed {
    pub(crate) stratum: Stratum,
    pub(crate) covered_ms: i64,
}

enum Change {
    First,
    Grown(Tally),
    Restarted(Tally),
    Unusable(String),
}

/// Takes readings into a phase; `read_ms` is their time. The caller has checked that they are newer than the last.
pub(crate) fn take(phase: &mut Phase, readings: &Readings, read_ms: i64, window: u64) -> Option<Closed> {
    let by_id: HashMap<&str, &Reading> =
        readings.readings.iter().map(|reading| (reading.instance_id.as_str(), reading)).collect();
    let arms = arms_of(phase);
    let mut tick = Tick::default();
    for (id, canary) in &arms {
        let counters = phase.instances.entry(id.clone()).or_default();
        let took_part = counters.base.is_some();
        let change = counters.take(by_id.get(id.as_str()).copied());
        tick.add(*canary, took_part, counters.base.is_some(), &change);
        if let Change::Unusable(reason) = change {
            let place = if *canary { &mut phase.canary_failure } else { &mut phase.control_failure };
            *place = format!("{id}: {reason}");
        }
    }

    phase.read_ms = read_ms;
    phase.readings = phase.readings.saturating_add(1);
    phase.restarts = phase.restarts.saturating_add(tick.canary.restarts);
    phase.answered += u32::from(tick.canary.answers > 0);
    phase.ticks += u32::from(tick.canary.counted.requests > 0);
    if tick.canary.answers > 0 {
        phase.silent = 0;
    } else if tick.control.answers > 0 {
        phase.silent += 1;
    }
    phase.canary.get_or_insert_default().add(tick.canary.counted);
    phase.control.get_or_insert_default().add(tick.control.counted);
    let open = phase.open_window.get_or_insert_default();
    open.add(tick.canary.counted);
    if open.counts().exposure() >= window.max(1) {
        phase.closed_window = phase.open_window.take();
    }

    let closed = close(phase, &arms, &tick, read_ms);
    if closed.is_some_and(|closed| closed.stratum.canary.exposure() > 0 && closed.stratum.control.exposure() > 0) {
        phase.compared += 1;
    }
    closed
}

fn arms_of(phase: &Phase) -> BTreeMap<String, bool> {
    let arms = &phase.begin().arms;
    arms.iter().flat_map(|arm| arm.instances.iter().map(|instance| (instance.id.clone(), arm.canary))).collect()
}

/// Closes the stratum if everyone in it was read; starts the next one.
fn close(phase: &mut Phase, arms: &BTreeMap<String, bool>, tick: &Tick, read_ms: i64) -> Option<Closed> {
    let restarted = tick.canary.restarts + tick.control.restarts > 0;
    if tick.canary.absent + tick.control.absent > 0 && !restarted {
        return None;
    }
    let mut sums = [Tally::default(), Tally::default()];
    for (id, canary) in arms {
        let Some(counters) = phase.instances.get_mut(id) else { continue };
        if let (Some(base), Some(last)) = (counters.base, counters.last) {
            sums[usize::from(*canary)].add(last.since(base));
        }
        counters.base = if counters.misses == 0 { counters.last } else { None };
    }
    let covered_ms = read_ms - std::mem::replace(&mut phase.stratum_from_ms, read_ms);
    let both = tick.canary.took_part > 0 && tick.control.took_part > 0;
    (both && !restarted)
        .then(|| Closed { stratum: Stratum { canary: sums[1].counts(), control: sums[0].counts() }, covered_ms })
}

#[derive(Default)]
struct Tick {
    canary: Side,
    control: Side,
}

#[derive(Default)]
struct Side {
    counted: Tally,
    /// Instances that could be read and had not just restarted.
    answers: u32,
    restarts: u32,
    /// Instances with a part in the open stratum.
    took_part: u32,
    /// Of these: not read now.
    absent: u32,
}

impl Tick {
    fn add(&mut self, canary: bool, took_part: bool, takes_part: bool, change: &Change) {
        let side = if canary { &mut self.canary } else { &mut self.control };
        side.took_part += u32::from(took_part && takes_part);
        match change {
            Change::First => side.answers += 1,
            Change::Grown(tally) => {
                side.answers += 1;
                side.counted.add(*tally);
            }
            Change::Restarted(tally) => {
                side.restarts += 1;
                side.counted.add(*tally);
            }
            Change::Unusable(_) => side.absent += u32::from(took_part && takes_part),
        }
    }
}

impl InstanceCounters {
    fn take(&mut self, reading: Option<&Reading>) -> Change {
        let change = match reading.ok_or_else(|| "not read".to_owned()).and_then(Totals::read) {
            Ok(now) => self.change_to(now),
            Err(reason) => Change::Unusable(reason),
        };
        if let Change::Unusable(_) = change {
            self.misses = self.misses.saturating_add(1);
            if self.misses >= GONE_AFTER {
                self.last = None;
                self.base = None;
            }
        } else {
            self.misses = 0;
        }
        change
    }

    fn change_to(&mut self, now: Totals) -> Change {
        let Some(last) = self.last else {
            self.last = Some(now);
            return Change::First;
        };
        let says_when = now.started > 0.0 && last.started > 0.0;
        let later = now.started - last.started;
        let fell = now.requests < last.requests || now.errors < last.errors;
        if says_when && later < -SAME_START || says_when && later <= SAME_START && fell {
            return Change::Unusable("its counters are older than those read before".into());
        }
        let restarted = if says_when { later > SAME_START } else { fell };
        let grown = if restarted { now.tally() } else { now.since(last) };
        if grown.requests > MAX_EXPOSURE {
            return Change::Unusable(format!("its counter rose by {} at once, which is not believed", grown.requests));
        }
        self.last = Some(now);
        if restarted { Change::Restarted(grown) } else { Change::Grown(grown) }
    }
}

impl Totals {
    fn read(reading: &Reading) -> Result<Self, String> {
        if !reading.failure.is_empty() {
            return Err(reading.failure.clone());
        }
        Ok(Self {
            requests: total(reading.requests, "requests")?,
            errors: total(reading.errors, "errors")?,
            started: if reading.started.is_finite() { reading.started } else { 0.0 },
        })
    }

    fn since(self, earlier: Self) -> Tally {
        Tally {
            requests: self.requests.saturating_sub(earlier.requests),
            errors: self.errors.saturating_sub(earlier.errors),
        }
    }

    fn tally(self) -> Tally {
        Tally { requests: self.requests, errors: self.errors }
    }
}

fn total(value: f64, name: &str) -> Result<u64, String> {
    if (0.0..=LARGEST_TOTAL).contains(&value) {
        Ok(value.round() as u64)
    } else {
        Err(format!("its counter of {name} is {value}, which is no count"))
    }
}
