//! The one place that knows the `backoff` crate. It is no longer maintained (see `deny.toml`), so everything else
//! asks here.

use std::{future::Future, time::Duration};

pub use backoff::Error as Attempt;
use backoff::ExponentialBackoff;

/// Runs `operation` until it succeeds, fails for good ([`Attempt::Permanent`]) or `limit` has passed, waiting longer
/// each time, from 50 ms up to 2 s, with jitter.
///
/// # Errors
/// The last error of `operation`.
pub async fn until<T, E, F, Fut>(limit: Duration, what: &str, operation: F) -> Result<T, E>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Attempt<E>>>,
    E: std::fmt::Display,
{
    let policy = ExponentialBackoff {
        initial_interval: Duration::from_millis(50),
        max_interval: Duration::from_secs(2),
        max_elapsed_time: Some(limit),
        ..ExponentialBackoff::default()
    };
    backoff::future::retry_notify(policy, operation, |error, next: Duration| {
        tracing::debug!(%error, ?next, "{what} failed, trying again");
    })
    .await
}
