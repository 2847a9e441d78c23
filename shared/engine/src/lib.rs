//! The Run and Lock aggregates: what happens next, and why.
