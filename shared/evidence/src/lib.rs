//! Sequential statistics for verification.
