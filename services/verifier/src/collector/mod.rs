//! Reads counters from instances and sends raw totals.

mod exposition;
mod scrape;
mod selector;

pub use exposition::{ExpositionError, Sample, samples};
pub use scrape::{MAX_BODY, PageTotals, Scrape, ScrapeError};
pub use selector::{Selector, SelectorError};
