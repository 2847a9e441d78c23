//! Processes on machines, behind a router.
//!
//! # On a host
//! ```text
//! <root>/<host>/<service>/
//!   releases/<version>/      unpacked artifact, with .cdflow-release.json
//!   current                  link to the promoted release
//!   live.json                the promoted release, for whoever comes next
//!   shared/                  the service's own data, kept over releases ($CDFLOW_SHARED)
//!   instances/<id>/          instance.json, output.log, lock
//!   logs/<id>.log            output of instances that were stopped
//!   fence.json, lock         see `hold`
//! ```
//! An instance is a process in a session of its own, so it outlives the executor. Its standard input is the instance's
//! `lock`, locked: the lock lives as long as the process does, so that an executor that was killed between starting a
//! process and writing down its number leads to no second one.
//!
//! # Shares of traffic
//! With a router they are exact to what its weights can express (see `shares`). Without one, every instance gets what its
//! clients send it: shares are by the number of instances, and `shift` changes nothing.

mod copies;
mod haproxy;
mod hold;
mod local;
mod record;
mod scene;
mod shares;
mod transport;
mod verbs;

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use cdflow_pipeline::plan::{Platform, Router as RouterPlan, Target, Transport as TransportPlan};
use cdflow_protocol::v1::Observation;
use futures::future::BoxFuture;

use self::{haproxy::Haproxy, local::Local};
use crate::{
    error::Error,
    platform::{Attempt, Change, Driver, Surroundings},
};

/// One service on one set of machines.
pub(super) struct Vm {
    service: String,
    environment: String,
    hosts: Vec<Local>,
    router: Option<Router>,
    copies_per_host: u32,
    ports: (u16, u16),
    start: Vec<String>,
    ready_path: String,
    ready_within: Duration,
    drain: Duration,
    surroundings: Surroundings,
}

/// What splits the traffic.
struct Router {
    haproxy: Haproxy,
    /// Where users reach the service.
    url: String,
    /// Where its fence is kept.
    ground: Local,
}

impl Vm {
    pub(super) fn new(target: &Target, surroundings: &Surroundings) -> Result<Self, Error> {
        let Platform::Vm {
            transport,
            hosts,
            instances_per_host,
            root,
            ports,
            start,
            ready_path,
            ready_within_ms,
            drain_ms,
            router,
        } = &target.platform;
        let wrong = |what: &str| Error::configuration(format!("infrastructure {}: {what}", target.infrastructure));
        if hosts.is_empty() {
            return Err(wrong("`hosts` is empty"));
        }
        if hosts.iter().collect::<BTreeSet<_>>().len() != hosts.len() {
            return Err(wrong("`hosts` names a host twice"));
        }
        for name in hosts.iter().chain([&target.service]) {
            if name.is_empty()
                || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
                || name.starts_with('.')
            {
                return Err(wrong(&format!(
                    "`{name}` cannot be the name of a directory: use letters, digits, `-`, `_` and `.`"
                )));
            }
        }
        if *instances_per_host == 0 {
            return Err(wrong("`instances-per-host` is 0"));
        }
        if ports.0 == 0 || ports.0 > ports.1 {
            return Err(wrong(&format!("`ports` {}-{} is no range", ports.0, ports.1)));
        }
        let start = shell_words::split(start)
            .map_err(|e| Error::configuration(format!("service {}: `start` cannot be split: {e}", target.service)))?;
        if start.is_empty() {
            return Err(Error::configuration(format!("service {}: `start` is empty", target.service)));
        }
        let root = std::path::absolute(root).map_err(|e| wrong(&format!("`root` {root}: {e}")))?;
        let at = |path: PathBuf, name: &str| match transport {
            TransportPlan::Local => Local::new(name, root.join(path), root.join(".ports")),
        };
        let router = router.as_ref().map(|RouterPlan::Haproxy { admin, backend, url }| {
            let ground =
                at(PathBuf::from(".routers").join(crate::archive::file_name(backend)), &format!("router {backend}"));
            Ok::<_, Error>(Router { haproxy: Haproxy::new(admin, backend)?, url: url.clone(), ground })
        });
        let millis = |value: i64| Duration::from_millis(u64::try_from(value).unwrap_or(0));
        Ok(Self {
            service: target.service.clone(),
            environment: target.environment.clone(),
            hosts: hosts.iter().map(|host| at(PathBuf::from(host).join(&target.service), host)).collect(),
            router: router.transpose()?,
            copies_per_host: *instances_per_host,
            ports: *ports,
            start,
            ready_path: format!("/{}", ready_path.trim_start_matches('/')),
            ready_within: millis(*ready_within_ms),
            drain: millis(*drain_ms),
            surroundings: surroundings.clone(),
        })
    }

    /// Copies of a release at full capacity.
    fn capacity(&self) -> u32 {
        let hosts = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX);
        hosts.saturating_mul(self.copies_per_host)
    }
}

impl Driver for Vm {
    fn observe<'a>(&'a self, _: &'a Attempt) -> BoxFuture<'a, Result<Observation, Error>> {
        Box::pin(self.observation())
    }

    fn stage<'a>(
        &'a self,
        attempt: &'a Attempt,
        change: &'a Change,
        percent: u32,
    ) -> BoxFuture<'a, Result<Observation, Error>> {
        Box::pin(self.do_stage(attempt, change, percent))
    }

    fn shift<'a>(
        &'a self,
        attempt: &'a Attempt,
        change: &'a Change,
        percent: u32,
    ) -> BoxFuture<'a, Result<Observation, Error>> {
        Box::pin(self.do_shift(attempt, change, percent))
    }

    fn promote<'a>(&'a self, attempt: &'a Attempt, change: &'a Change) -> BoxFuture<'a, Result<Observation, Error>> {
        Box::pin(self.do_promote(attempt, change))
    }

    fn retire<'a>(&'a self, attempt: &'a Attempt, change: &'a Change) -> BoxFuture<'a, Result<Observation, Error>> {
        Box::pin(self.do_retire(attempt, change))
    }
}
