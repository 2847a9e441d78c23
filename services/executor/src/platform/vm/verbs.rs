//! The five verbs. Each looks first, and changes only what is not yet as it should be.

use std::collections::BTreeMap;

use cdflow_protocol::v1::{Observation, Release};
use futures::future::try_join_all;

use super::{
    Vm,
    copies::{copies_of, write_json},
    haproxy::Wanted,
    hold::Hold,
    record::ReleaseRecord,
    scene::{LIVE, Replica, Scene},
    shares::{self, ALONE},
    transport::Transport,
};
use crate::{
    error::Error,
    platform::{Attempt, Change},
};

const CURRENT: &str = "current";

impl Vm {
    pub(super) async fn do_stage(
        &self,
        attempt: &Attempt,
        change: &Change,
        percent: u32,
    ) -> Result<Observation, Error> {
        let hold = self.hold(attempt).await?;
        let Some(release) = release_of(change, "stage")? else {
            hold.say("there was no release before: nothing to stage");
            return self.observation().await;
        };
        let capacity = self.capacity();
        let wanted =
            u32::try_from((u64::from(capacity) * u64::from(percent.min(100))).div_ceil(100)).unwrap_or(capacity);
        let copies = self.ensure(&hold, &release, &self.places(wanted.max(1))).await?;
        self.register(&hold, &copies).await?;
        self.observation().await
    }

    pub(super) async fn do_shift(
        &self,
        attempt: &Attempt,
        change: &Change,
        percent: u32,
    ) -> Result<Observation, Error> {
        let hold = self.hold(attempt).await?;
        let Some(release) = release_of(change, "shift")? else {
            self.set_weights(&hold, &BTreeMap::new()).await?;
            hold.say(format!("{}: no traffic any more, as before the first release", self.service));
            return self.observation().await;
        };
        if change.rollback {
            self.ensure(&hold, &release, &self.places(self.capacity())).await?;
        }
        let scene = self.look().await?;
        let new = scene.alive(&release.key());
        if new.is_empty() {
            return Err(Error::NothingStaged { release: release.version, service: self.service.clone() });
        }
        let previous = change.previous.as_ref().map(ReleaseRecord::from).filter(|old| old.key() != release.key());
        let old = previous.as_ref().map(|old| scene.alive(&old.key())).unwrap_or_default();
        if self.router.is_none() {
            hold.say(format!(
                "no router: {} of {} and {} of what was before share the traffic",
                copies_of(new.len()),
                release.version,
                copies_of(old.len())
            ));
            return self.observation().await;
        }
        // Ready first, then traffic: something may have happened since they were staged.
        let idle = new.iter().filter(|copy| self.traffic(&scene, copy) == 0.0);
        try_join_all(idle.map(|copy| self.until_ready(copy))).await?;
        let count = |copies: &[&Replica]| u32::try_from(copies.len()).unwrap_or(u32::MAX);
        let weights = shares::weights(count(&new), count(&old), percent);
        let weighted = new.iter().map(|copy| (*copy, weights.new)).chain(old.iter().map(|copy| (*copy, weights.old)));
        let wanted = self.wanted(weighted);
        self.set_weights(&hold, &wanted).await?;
        hold.say(match (&previous, old.len()) {
            (Some(previous), 1..) if percent < 100 => format!(
                "{percent} % of the traffic goes to {} ({}, weight {} each), the rest to {} ({}, weight {} each)",
                release.version,
                copies_of(new.len()),
                weights.new,
                previous.version,
                copies_of(old.len()),
                weights.old
            ),
            (Some(previous), 0) if percent < 100 => {
                format!("all traffic goes to {}: nothing of {} is running", release.version, previous.version)
            }
            _ => format!("all traffic goes to {} ({})", release.version, copies_of(new.len())),
        });
        self.observation().await
    }

    pub(super) async fn do_promote(&self, attempt: &Attempt, change: &Change) -> Result<Observation, Error> {
        let hold = self.hold(attempt).await?;
        let Some(release) = release_of(change, "promote")? else {
            hold.say("there was no release before: nothing to promote");
            return self.observation().await;
        };
        let copies = self.ensure(&hold, &release, &self.places(self.capacity())).await?;
        // Copies beyond the capacity serve until they are retired.
        let scene = self.look().await?;
        let all = scene.alive(&release.key());
        let wanted = self.wanted(all.into_iter().map(|copy| (copy, ALONE)));
        self.set_weights(&hold, &wanted).await?;
        for (position, host) in self.hosts.iter().enumerate() {
            hold.check().await?;
            if let Some(name) = self.unpacked(position, &release).await? {
                let target = format!("releases/{name}");
                if host.read_link(CURRENT).await?.as_ref() != Some(&target) {
                    host.link(CURRENT, &target).await?;
                }
            }
            write_json(host, LIVE, &release).await?;
        }
        hold.say(format!(
            "{} {} is live: {} on {} hosts",
            self.service,
            release.version,
            copies_of(copies.len()),
            self.hosts.len()
        ));
        self.observation().await
    }

    pub(super) async fn do_retire(&self, attempt: &Attempt, change: &Change) -> Result<Observation, Error> {
        let hold = self.hold(attempt).await?;
        let release = change.release.as_ref().map(ReleaseRecord::from);
        if let Some(release) = &release {
            self.keep_serving(&hold, release, change.rollback).await?;
        }
        let scene = self.look().await?;
        let key = release.as_ref().map(ReleaseRecord::key);
        let (leaving, staying): (Vec<Replica>, Vec<Replica>) = scene.copies.iter().cloned().partition(|copy| {
            Some(&copy.key) != key.as_ref() || copy.record.index >= self.copies_per_host || !copy.is_alive
        });
        if release.is_some() && staying.is_empty() {
            return Err(Error::NothingStaged {
                release: release.map(|release| release.version).unwrap_or_default(),
                service: self.service.clone(),
            });
        }
        if leaving.is_empty() {
            hold.say(format!("{}: nothing to retire", self.service));
        } else {
            self.drain_and_end(&hold, &leaving).await?;
        }
        self.sweep(&hold, &scene, &staying).await?;
        match &release {
            Some(release) => self.prune(&hold, release, &staying).await?,
            None => self.forget(&hold).await?,
        }
        self.observation().await
    }

    /// Removing everything else must not leave users without an answer.
    async fn keep_serving(&self, hold: &Hold<'_>, release: &ReleaseRecord, rollback: bool) -> Result<(), Error> {
        if rollback {
            self.ensure(hold, release, &self.places(self.capacity())).await?;
        }
        let scene = self.look().await?;
        let copies = scene.alive(&release.key());
        if copies.is_empty() {
            return Err(Error::NothingStaged { release: release.version.clone(), service: self.service.clone() });
        }
        if self.router.is_some() && copies.iter().all(|copy| self.traffic(&scene, copy) == 0.0) {
            hold.say(format!("{} has no traffic, although everything else goes: giving it all", release.version));
            let wanted = self.wanted(copies.into_iter().map(|copy| (copy, ALONE)));
            self.set_weights(hold, &wanted).await?;
        }
        Ok(())
    }

    /// Removes what interrupted attempts left: empty instance directories, servers without a process.
    async fn sweep(&self, hold: &Hold<'_>, scene: &Scene, staying: &[Replica]) -> Result<(), Error> {
        for (host, name) in &scene.beginnings {
            hold.check().await?;
            self.hosts[*host].remove(&format!("instances/{name}")).await?;
        }
        let Some(router) = &self.router else { return Ok(()) };
        let known: Vec<String> = staying.iter().map(|copy| self.server_of(copy)).collect();
        let servers = router.haproxy.servers().await?;
        let unknown: Vec<String> = servers.into_keys().filter(|name| !known.contains(name)).collect();
        self.forget_servers(hold, &unknown).await
    }

    /// Removes unpacked releases beyond those that are kept.
    async fn prune(&self, hold: &Hold<'_>, release: &ReleaseRecord, staying: &[Replica]) -> Result<(), Error> {
        for (position, host) in self.hosts.iter().enumerate() {
            let mut needed = vec![self.unpacked(position, release).await?];
            for copy in staying.iter().filter(|copy| copy.host == position) {
                needed.push(self.unpacked(position, &copy.record.release).await?);
            }
            let current = host.read_link(CURRENT).await?;
            needed.push(current.and_then(|link| link.strip_prefix("releases/").map(str::to_owned)));
            let all = host.list_newest_first("releases").await?;
            let (partial, complete): (Vec<_>, Vec<_>) = all.into_iter().partition(|name| name.starts_with('.'));
            let spare = complete.into_iter().filter(|name| !needed.iter().flatten().any(|kept| kept == name));
            // The live one is one of those that are kept.
            let excess = spare.skip(self.surroundings.keep_releases.saturating_sub(1));
            for name in excess {
                hold.check().await?;
                host.remove(&format!("releases/{name}")).await?;
            }
            for name in partial {
                // A dropped attempt may still be writing into it; then the next one removes it.
                if let Err(error) = host.remove(&format!("releases/{name}")).await {
                    tracing::debug!(%error, "removing a partly unpacked release");
                }
            }
        }
        Ok(())
    }

    /// After a first release that failed: nothing is live, as before. Unpacked files stay for the next try.
    async fn forget(&self, hold: &Hold<'_>) -> Result<(), Error> {
        for host in &self.hosts {
            hold.check().await?;
            host.remove(CURRENT).await?;
            host.remove(LIVE).await?;
        }
        hold.say(format!("{}: everything is removed, as before the first release", self.service));
        Ok(())
    }

    /// New copies are known to the router, without traffic.
    async fn register(&self, hold: &Hold<'_>, copies: &[Replica]) -> Result<(), Error> {
        let Some(router) = &self.router else { return Ok(()) };
        hold.check().await?;
        let wanted = copies
            .iter()
            .map(|copy| (self.server_of(copy), Wanted { endpoint: self.endpoint(copy), weight: None }))
            .collect();
        router.haproxy.apply(&wanted, false).await
    }

    fn wanted<'a>(&self, copies: impl Iterator<Item = (&'a Replica, u32)>) -> BTreeMap<String, Wanted> {
        copies
            .map(|(copy, weight)| {
                (self.server_of(copy), Wanted { endpoint: self.endpoint(copy), weight: Some(weight) })
            })
            .collect()
    }

    /// These servers have these weights, all others of ours none.
    async fn set_weights(&self, hold: &Hold<'_>, wanted: &BTreeMap<String, Wanted>) -> Result<(), Error> {
        let Some(router) = &self.router else { return Ok(()) };
        hold.check().await?;
        router.haproxy.apply(wanted, true).await
    }
}

/// The release to act on; in a rollback there may be none.
fn release_of(change: &Change, verb: &str) -> Result<Option<ReleaseRecord>, Error> {
    match &change.release {
        Some(Release { version, .. }) if version.is_empty() => {
            Err(Error::configuration(format!("`{verb}` needs a release with a version")))
        }
        Some(release) => Ok(Some(release.into())),
        None if change.rollback => Ok(None),
        None => Err(Error::configuration(format!("`{verb}` needs a release"))),
    }
}
