//! Reads counters from instances and sends raw totals.
//!
//! A collector knows nothing of releases being good or bad. It can be killed at any moment and started elsewhere: the
//! totals live in the instances, and two collectors of the same task do no harm, because what is older than what is
//! known is not taken.

mod collect;
mod exposition;
mod outbox;
mod scrape;
mod selector;
mod task;

pub use collect::{CollectError, Collection};
pub use exposition::{ExpositionError, Sample, samples};
pub use outbox::{Outbox, Postman, outbox};
pub use scrape::{MAX_BODY, PageTotals, Scrape, ScrapeError};
pub use selector::{Selector, SelectorError};
pub use task::Collector;
