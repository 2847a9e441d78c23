//! CI events in, run requests out.
