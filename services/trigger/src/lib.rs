//! CI events in, run requests out.

mod ledger;

pub use ledger::{TriggerLedger, codes};
