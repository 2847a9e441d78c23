//! Crashes on demand, for tests: the owner stops on the spot and releases nothing, as a killed process would.

use std::sync::{Arc, Mutex, PoisonError};

/// Where an owner can be made to crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Decided, nothing sent.
    BeforeAppend,
    /// The commit is stored; no effect has left, no signal is acknowledged.
    AfterAppend,
    /// All effects of a commit have left; that is not recorded.
    AfterDispatch,
    /// The commit is stored and its effects are leaving; no signal is acknowledged.
    BeforeAck,
    /// The lease is taken and the owner's commit appended; no consumer exists.
    InTakeover,
    /// A checkpoint's segment of final states is written, the checkpoint itself is not.
    InCheckpoint,
}

/// The crash that a test asks for; shared with the journal that is to have it.
#[derive(Debug, Clone, Default)]
pub struct Failpoints(Arc<Mutex<Option<(Crash, u32)>>>);

impl Failpoints {
    /// Crash at the `nth` time (1 is the next) that `point` is reached.
    pub fn arm(&self, point: Crash, nth: u32) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((point, nth));
    }

    pub(crate) fn reached(&self, point: Crash) -> Result<(), crate::Error> {
        let mut armed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match armed.as_mut() {
            Some((wanted, left)) if *wanted == point => {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    *armed = None;
                    return Err(crate::Error::Crashed(point));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
