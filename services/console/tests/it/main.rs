//! The console on a real nats-server, over real HTTP, with a journal that the tests write by hand.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod access;
mod commands;
mod configuration;
mod logs;
mod pages;
mod read_model;
mod story;
mod support;
