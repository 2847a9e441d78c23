//! One file for each group of commands.

pub(crate) mod approval;
pub(crate) mod configuration;
pub(crate) mod install;
pub(crate) mod journal;
pub(crate) mod login;
pub(crate) mod look;
pub(crate) mod run;
pub(crate) mod watch;
