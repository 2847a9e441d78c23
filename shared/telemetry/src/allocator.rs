//! The allocator of every process of the suite.
//!
//! A run of empty steps spends about 40 % of a service's processor time in glibc's `malloc` and `free`; with mimalloc it
//! takes a third less (docs/performance.md). It stands here because every process links this crate.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
