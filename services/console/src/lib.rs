//! API, pages and the read model.

pub mod api;
