//! Doing tasks: leases, fences, announcements, grouped results.
