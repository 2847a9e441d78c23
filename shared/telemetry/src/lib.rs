//! Logs, traces, health and graceful stop for every service.
