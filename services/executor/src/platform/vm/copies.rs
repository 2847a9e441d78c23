//! Starting and stopping copies of a release.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::future::{join_all, try_join_all};

use super::{
    Vm,
    hold::Hold,
    local::Local,
    record::{InstanceRecord, ReleaseRecord, UnpackedRecord},
    scene::{Replica, read_json},
    transport::{Ending, Launch, Transport},
};
use crate::{archive::file_name, error::Error};

/// Between two looks whether a copy is ready.
const PROBE_EVERY: Duration = Duration::from_millis(50);
/// How long one answer may take.
const PROBE: Duration = Duration::from_secs(2);
/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);
/// Lines of output in an error.
const SHOWN_LINES: usize = 15;
/// Logs of stopped copies that are kept on a host.
const KEEP_LOGS: usize = 20;
/// Marks a complete release.
const COMPLETE: &str = ".cdflow-release.json";

/// Where a copy belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) host: usize,
    pub(super) index: u32,
}

impl Vm {
    /// The first places: one copy on each host, then a second on each, and so on.
    pub(super) fn places(&self, count: u32) -> Vec<Place> {
        let hosts = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX);
        (0..count.min(self.capacity()))
            .map(|number| Place { host: (number % hosts) as usize, index: number / hosts })
            .collect()
    }

    /// Copies of a release at these places run and are ready. Those that do are left alone.
    pub(super) async fn ensure(
        &self,
        hold: &Hold<'_>,
        release: &ReleaseRecord,
        places: &[Place],
    ) -> Result<Vec<Replica>, Error> {
        let scene = self.look().await?;
        let mut directories = BTreeMap::new();
        let (mut copies, mut started) = (Vec::new(), Vec::new());
        for place in places {
            let begun = Instant::now();
            let name = Self::copy_name(release, place.index);
            let is_here = |copy: &&Replica| copy.is_alive && copy.host == place.host && copy.name == name;
            if let Some(copy) = scene.copies.iter().find(is_here) {
                copies.push((copy.clone(), begun, false));
                continue;
            }
            let directory = match directories.get(&place.host) {
                Some(directory) => directory,
                None => {
                    let directory = self.ensure_unpacked(hold, place.host, release).await?;
                    directories.entry(place.host).or_insert(directory)
                }
            };
            let copy = self.start(hold, release, *place, directory).await?;
            started.push(copy.clone());
            copies.push((copy, begun, true));
        }
        let all_ready = try_join_all(copies.iter().map(async |(copy, begun, is_new)| {
            self.until_ready(copy).await?;
            if *is_new {
                hold.say(format!(
                    "started {} {} on {}, port {}, ready after {:.1} s",
                    self.service,
                    copy.version(),
                    self.hosts[copy.host].name(),
                    copy.record.port,
                    begun.elapsed().as_secs_f64(),
                ));
            }
            Ok(())
        }));
        if let Err(error) = all_ready.await {
            // Nobody will use them; what they wrote is kept.
            hold.check().await?;
            self.end(hold, &started).await?;
            return Err(error);
        }
        if started.is_empty() {
            hold.say(format!(
                "{} {}: {} running already, left alone",
                self.service,
                release.version,
                copies_of(copies.len())
            ));
        }
        Ok(copies.into_iter().map(|(copy, _, _)| copy).collect())
    }

    fn copy_name(release: &ReleaseRecord, index: u32) -> String {
        format!("{}.{}-{}", file_name(&release.version).display(), release.key(), index + 1)
    }

    /// Starts a copy where none runs. Written down before and after, so that a crash between leads to no second process.
    async fn start(
        &self,
        hold: &Hold<'_>,
        release: &ReleaseRecord,
        place: Place,
        directory: &str,
    ) -> Result<Replica, Error> {
        let host = &self.hosts[place.host];
        let name = Self::copy_name(release, place.index);
        let own = format!("instances/{name}");
        hold.check().await?;
        // What a former run of this copy left behind, such as children of a leader that has died.
        host.end_holders(&format!("{own}/lock")).await?;
        host.make_directory(&own).await?;
        host.make_directory("shared").await?;
        let Some(port) = host.reserve_port(self.ports, &own).await? else {
            return Err(Error::NoPort { host: host.name().into(), from: self.ports.0, to: self.ports.1 });
        };
        let mut record = InstanceRecord { release: release.clone(), index: place.index, port, process: None };
        write_json(host, &format!("{own}/instance.json"), &record).await?;
        hold.check().await?;
        let launch = self.launch_of(host, release, &name, port, directory);
        let launched = host.launch(&launch).await?;
        record.process = match launched {
            Some(process) => Some(process),
            None => host.find(&launch.lock).await?,
        };
        write_json(host, &format!("{own}/instance.json"), &record).await?;
        Ok(Replica { host: place.host, name, key: release.key(), record, is_alive: true })
    }

    fn launch_of(&self, host: &Local, release: &ReleaseRecord, name: &str, port: u16, directory: &str) -> Launch {
        let own = format!("instances/{name}");
        let fill = |text: &String| text.replace("{port}", &port.to_string()).replace("{version}", &release.version);
        let mut environment = release.environment.clone();
        let ours = [
            ("PORT", port.to_string()),
            ("CDFLOW_SERVICE", self.service.clone()),
            ("CDFLOW_ENVIRONMENT", self.environment.clone()),
            ("CDFLOW_VERSION", release.version.clone()),
            ("CDFLOW_HOST", host.name().to_owned()),
            ("CDFLOW_INSTANCE", format!("{}-{name}", host.name())),
            ("CDFLOW_SHARED", host.absolute("shared")),
        ];
        environment.extend(ours.map(|(name, value)| (name.to_owned(), value)));
        Launch {
            command: self.start.iter().map(fill).collect(),
            directory: directory.into(),
            environment,
            lock: format!("{own}/lock"),
            output: format!("{own}/output.log"),
        }
    }

    pub(super) async fn until_ready(&self, copy: &Replica) -> Result<(), Error> {
        let host = &self.hosts[copy.host];
        let begun = Instant::now();
        let instance = format!("{} {} on {}", self.service, copy.version(), host.name());
        loop {
            let answer = self.probe(copy, PROBE).await;
            // Asked after the answer: another process may have given it.
            let is_alive = match &copy.record.process {
                Some(process) => host.is_alive(process).await,
                None => false,
            };
            let tail = async || host.tail(&format!("{}/output.log", copy.directory()), SHOWN_LINES).await;
            if !is_alive {
                return Err(Error::Exited { instance, log: tail().await });
            }
            match answer {
                Ok(()) => return Ok(()),
                Err(answer) if begun.elapsed() >= self.ready_within => {
                    let seconds = self.ready_within.as_secs_f64();
                    return Err(Error::NotReady { instance, seconds, answer, log: tail().await });
                }
                Err(_) => tokio::time::sleep(PROBE_EVERY).await,
            }
        }
    }

    /// The release is unpacked on a host; returns its directory.
    async fn ensure_unpacked(&self, hold: &Hold<'_>, host: usize, release: &ReleaseRecord) -> Result<String, Error> {
        let host = &self.hosts[host];
        let plain = format!("releases/{}", file_name(&release.version).display());
        let candidates = host.list("releases").await?;
        for name in candidates {
            let directory = format!("releases/{name}");
            let is_named_so =
                directory == plain || directory.strip_prefix(&plain).is_some_and(|rest| rest.starts_with('@'));
            if is_named_so
                && let Some(unpacked) = read_json::<UnpackedRecord>(host, &format!("{directory}/{COMPLETE}")).await?
                && is_unpacked(release, &unpacked)
            {
                return Ok(directory);
            }
        }
        let artifact = self.surroundings.artifacts.fetch(&release.artifact, &release.digest).await?;
        hold.check().await?;
        // Another artifact under the same version may be running: it stays where it is.
        let directory = match host.read(&format!("{plain}/{COMPLETE}")).await? {
            None => plain,
            Some(_) => format!("{plain}@{}", &artifact.digest[..8]),
        };
        // One of its own for each attempt: what a dropped one is still writing must not get in between.
        let new = format!("releases/.unpacking-{}", hold.name());
        host.remove(&new).await?;
        if let Err(reason) = host.unpack(&artifact.path, &new).await? {
            host.remove(&new).await?;
            return Err(Error::Archive { url: release.artifact.clone(), reason });
        }
        let record = UnpackedRecord { artifact: release.artifact.clone(), digest: artifact.digest };
        write_json(host, &format!("{new}/{COMPLETE}"), &record).await?;
        hold.check().await?;
        host.remove(&directory).await?;
        host.rename(&new, &directory).await?;
        hold.say(format!("unpacked {} {} on {}", self.service, release.version, host.name()));
        Ok(directory)
    }

    /// Where a release is unpacked on a host, if it is.
    pub(super) async fn unpacked(&self, host: usize, release: &ReleaseRecord) -> Result<Option<String>, Error> {
        let host = &self.hosts[host];
        for name in host.list_newest_first("releases").await? {
            let record = read_json::<UnpackedRecord>(host, &format!("releases/{name}/{COMPLETE}")).await?;
            let version = file_name(&release.version).display().to_string();
            let is_named_so = name == version || name.strip_prefix(&version).is_some_and(|rest| rest.starts_with('@'));
            if is_named_so && record.is_some_and(|record| is_unpacked(release, &record)) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Takes copies out of the router, waits for their requests, and stops them.
    pub(super) async fn drain_and_end(&self, hold: &Hold<'_>, copies: &[Replica]) -> Result<(), Error> {
        let servers: Vec<String> = copies.iter().map(|copy| self.server_of(copy)).collect();
        if let Some(router) = &self.router {
            hold.check().await?;
            let open = router.haproxy.drain(&servers, self.drain).await?;
            if open > 0 {
                hold.say(format!(
                    "{open} connections were still open after {:.1} s of draining",
                    self.drain.as_secs_f64()
                ));
            }
        }
        hold.check().await?;
        self.end(hold, copies).await?;
        self.forget_servers(hold, &servers).await
    }

    /// Removes servers from the router whose processes are gone.
    pub(super) async fn forget_servers(&self, hold: &Hold<'_>, servers: &[String]) -> Result<(), Error> {
        if let Some(router) = self.router.as_ref().filter(|_| !servers.is_empty()) {
            hold.check().await?;
            for left in router.haproxy.delete(servers).await? {
                hold.say(format!(
                    "{left} still has connections in HAProxy: left in maintenance, to be removed next time"
                ));
            }
        }
        Ok(())
    }

    /// Stops processes, all at the same time, and removes what belongs to them except what they wrote.
    async fn end(&self, hold: &Hold<'_>, copies: &[Replica]) -> Result<(), Error> {
        let ended = copies.iter().map(async |copy| {
            let host = &self.hosts[copy.host];
            let begun = Instant::now();
            let mut forced = false;
            if let Some(process) = &copy.record.process {
                host.end(process, Ending::Ask).await;
                while host.is_alive(process).await {
                    if begun.elapsed() > GRACE {
                        host.end(process, Ending::Force).await;
                        forced = true;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            host.end_holders(&format!("{}/lock", copy.directory())).await?;
            self.keep_log(copy).await?;
            host.remove(&copy.directory()).await?;
            let how =
                if forced { format!(" (killed: it did not stop within {} s)", GRACE.as_secs()) } else { String::new() };
            hold.say(format!("stopped {} {} on {}{how}", self.service, copy.version(), host.name()));
            Ok(())
        });
        join_all(ended).await.into_iter().collect()
    }

    async fn keep_log(&self, copy: &Replica) -> Result<(), Error> {
        let host = &self.hosts[copy.host];
        let output = format!("{}/output.log", copy.directory());
        if host.list(&copy.directory()).await?.iter().any(|name| name == "output.log") {
            host.rename(&output, &format!("logs/{}.log", copy.name)).await?;
        }
        for old in host.list_newest_first("logs").await?.into_iter().skip(KEEP_LOGS) {
            host.remove(&format!("logs/{old}")).await?;
        }
        Ok(())
    }
}

fn is_unpacked(release: &ReleaseRecord, unpacked: &UnpackedRecord) -> bool {
    match release.digest.strip_prefix("sha256:") {
        Some(digest) => unpacked.digest.eq_ignore_ascii_case(digest),
        None => unpacked.artifact == release.artifact,
    }
}

pub(super) fn copies_of(count: usize) -> String {
    if count == 1 { "1 instance".into() } else { format!("{count} instances") }
}

pub(super) async fn write_json(host: &Local, path: &str, value: &impl serde::Serialize) -> Result<(), Error> {
    let content = serde_json::to_vec_pretty(value).map_err(|e| Error::host(format!("write {path}"), e))?;
    host.write(path, &content).await
}
