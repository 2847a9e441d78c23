//! API, pages and the read model.
