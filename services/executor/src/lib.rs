//! Does the work near the targets.
