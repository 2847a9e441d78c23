//! Writing the archive back.

/// Key in the metadata of JOURNAL while a restore is going on.
pub(crate) const RESTORING: &str = "cdflow-restoring";
