//! Starts the real servers that tests talk to.
