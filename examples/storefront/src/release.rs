//! What a version does differently.

use serde::Deserialize;

/// The `release.json` of an archive.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Release {
    /// Sent with every answer as `x-storefront-version`.
    pub(crate) version: String,
    /// Added to every request, in milliseconds.
    #[serde(default)]
    pub(crate) extra_latency_ms: u64,
    /// Share of checkouts that fail because of the payment provider, 0 to 1.
    #[serde(default, deserialize_with = "probability")]
    pub(crate) payment_failures: f64,
    /// Share of checkouts with a discount code that fail because of a bug, 0 to 1.
    #[serde(default, deserialize_with = "probability")]
    pub(crate) discount_failures: f64,
}

fn probability<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(serde::de::Error::custom(format!("{value} is no probability: expected 0 to 1")))
    }
}
