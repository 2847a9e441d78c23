//! Owns runs and locks.
