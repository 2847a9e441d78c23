//! Health profiles: what healthy means.

use super::{Count, Duration, Name, OddsRatio, Path, Percentage, Selector};
use crate::decode::fields;
use crate::source::At;

fields! {
    "a HealthProfile";
    /// What healthy means.
    pub struct HealthProfile {
        /// Unique among health profiles.
        pub name: At<Name>,
        /// Where metrics come from.
        pub scrape: Option<Scrape>,
        /// Counter of requests. `http_requests_total` unless said.
        pub requests: Option<At<Selector>>,
        /// Counter of failed requests. `http_requests_total{code=~"5.."}` unless said.
        pub errors: Option<At<Selector>>,
        /// What has to hold whatever the old release does.
        pub guards: Option<Guards>,
        /// Probability of rolling back a release that is no worse, over the whole stage. 1% unless said.
        pub alpha: Option<At<Percentage>>,
        /// Probability of promoting a release that is as harmful as `harm`. 5% unless said.
        pub beta: Option<At<Percentage>>,
        /// Odds ratio of failures from which on a release is harmful. 2.0 unless said.
        pub harm: Option<At<OddsRatio>>,
        /// Shortest time before a release passes. 5 m unless said.
        pub bake: Option<At<Duration>>,
        /// Fewest scrapes with data before a release passes. 20 unless said.
        pub min_ticks: Option<At<Count>>,
    }
    later {
        "latency": "this release compares counts of failed requests only: remove it",
        "source": "this release scrapes the instances themselves: `scrape:`",
        "metrics": "this release compares counts of failed requests only: `requests:` and `errors:`",
        "logs": "this release compares counts of failed requests only: `requests:` and `errors:`",
        "direction": "this release compares counts of failed requests, of which fewer are better: remove it",
        "margins": "how much worse is harmful is `harm:`, an odds ratio",
    }
}

fields! {
    "`scrape`";
    /// Where metrics come from: each instance.
    pub struct Scrape {
        /// Path with metrics in Prometheus' format. `/metrics` unless said.
        pub path: Option<At<Path>>,
        /// How often. 5 s unless said.
        pub every: Option<At<Duration>>,
    }
}

fields! {
    "`guards`";
    /// What has to hold whatever the old release does.
    pub struct Guards {
        /// Share of failed requests above which a release fails. 5% unless said.
        pub max_error_rate: Option<At<Percentage>>,
        /// Fewest requests of the new release before it passes. 100 unless said.
        pub min_requests: Option<At<Count>>,
    }
}
