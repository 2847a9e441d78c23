//! Looking: what is there, on all hosts and in the router.

use std::{collections::BTreeMap, time::Duration};

use cdflow_protocol::v1::{Instance, Observation};

use super::{
    Vm,
    haproxy::{Endpoint, Server, server_name},
    local::Local,
    record::{InstanceRecord, ReleaseKey, ReleaseRecord},
    transport::Transport,
};
use crate::error::Error;

pub(super) const LIVE: &str = "live.json";
/// How long an instance may take to say that it is ready, when only asked to report.
const PROBE: Duration = Duration::from_secs(1);

/// One copy of a release on one host, as written down; its process may be gone.
#[derive(Debug, Clone)]
pub(super) struct Replica {
    /// Position of its host in the target.
    pub(super) host: usize,
    /// Name of its directory below `instances`.
    pub(super) name: String,
    pub(super) key: ReleaseKey,
    pub(super) record: InstanceRecord,
    pub(super) is_alive: bool,
}

impl Replica {
    pub(super) fn directory(&self) -> String {
        format!("instances/{}", self.name)
    }

    pub(super) fn version(&self) -> &str {
        &self.record.release.version
    }
}

/// Everything that is there.
pub(super) struct Scene {
    pub(super) copies: Vec<Replica>,
    /// Host and name of directories below `instances` in which nothing was ever started.
    pub(super) beginnings: Vec<(usize, String)>,
    /// The release that was promoted last.
    pub(super) promoted: Option<ReleaseRecord>,
    /// Our servers in the router; empty without one.
    pub(super) servers: BTreeMap<String, Server>,
}

impl Scene {
    pub(super) fn alive(&self, key: &ReleaseKey) -> Vec<&Replica> {
        self.copies.iter().filter(|copy| copy.is_alive && copy.key == *key).collect()
    }
}

impl Vm {
    /// Looks at all hosts and the router.
    pub(super) async fn look(&self) -> Result<Scene, Error> {
        let mut scene = Scene { copies: Vec::new(), beginnings: Vec::new(), promoted: None, servers: BTreeMap::new() };
        for (position, host) in self.hosts.iter().enumerate() {
            for name in host.list("instances").await? {
                match self.look_at(position, &name).await? {
                    Some(copy) => scene.copies.push(copy),
                    None => scene.beginnings.push((position, name)),
                }
            }
            // The hosts agree, unless a promotion was interrupted: then it will be repeated.
            if scene.promoted.is_none() {
                scene.promoted = read_json(host, LIVE).await?;
            }
        }
        if let Some(router) = &self.router {
            scene.servers = router.haproxy.servers().await?;
        }
        Ok(scene)
    }

    async fn look_at(&self, host: usize, name: &str) -> Result<Option<Replica>, Error> {
        let at = &self.hosts[host];
        let Some(mut record) = read_json::<InstanceRecord>(at, &format!("instances/{name}/instance.json")).await?
        else {
            return Ok(None);
        };
        let is_alive = match &record.process {
            Some(process) => at.is_alive(process).await,
            // The executor was killed before it could write down what it had started, if it had.
            None => {
                record.process = at.find(&format!("instances/{name}/lock")).await?;
                record.process.is_some()
            }
        };
        Ok(Some(Replica { host, name: name.into(), key: record.release.key(), record, is_alive }))
    }

    /// The id of a copy, for people and the router.
    pub(super) fn id(&self, copy: &Replica) -> String {
        format!("{}-{}", self.hosts[copy.host].name(), copy.name)
    }

    pub(super) fn server_of(&self, copy: &Replica) -> String {
        server_name(&self.id(copy))
    }

    pub(super) fn endpoint(&self, copy: &Replica) -> Endpoint {
        Endpoint { address: self.hosts[copy.host].address().into(), port: copy.record.port }
    }

    pub(super) fn url(&self, copy: &Replica) -> String {
        let Endpoint { address, port } = self.endpoint(copy);
        format!("http://{address}:{port}")
    }

    /// Asks a copy once whether it is ready.
    pub(super) async fn probe(&self, copy: &Replica, limit: Duration) -> Result<(), String> {
        let url = format!("{}{}", self.url(copy), self.ready_path);
        match self.surroundings.http.get(&url).timeout(limit).send().await {
            Ok(answer) if answer.status() == 200 => Ok(()),
            Ok(answer) => Err(format!("{} answered {}", self.ready_path, answer.status())),
            Err(error) => Err(crate::artifact::causes(&error.without_url())),
        }
    }

    /// What `observe` reports, and every verb at its end.
    pub(super) async fn observation(&self) -> Result<Observation, Error> {
        let scene = self.look().await?;
        let traffic: Vec<f64> = scene.copies.iter().map(|copy| self.traffic(&scene, copy)).collect();
        let total: f64 = traffic.iter().sum();
        let probes = scene.copies.iter().map(async |copy| copy.is_alive && self.probe(copy, PROBE).await.is_ok());
        let ready = futures::future::join_all(probes).await;
        let instances: Vec<Instance> = scene
            .copies
            .iter()
            .zip(traffic.iter().zip(ready))
            .map(|(copy, (traffic, ready))| Instance {
                id: self.id(copy),
                host: self.hosts[copy.host].name().into(),
                url: self.url(copy),
                version: copy.version().into(),
                ready,
                weight: if total > 0.0 { 100.0 * traffic / total } else { 0.0 },
            })
            .collect();
        let live = live(&scene, &traffic);
        let live_key = live.as_ref().map(ReleaseRecord::key);
        let url_of = |is_wanted: &dyn Fn(&Replica, f64) -> bool| {
            let found =
                scene.copies.iter().zip(&traffic).find(|(copy, traffic)| copy.is_alive && is_wanted(copy, **traffic));
            found.map(|(copy, _)| self.url(copy)).unwrap_or_default()
        };
        let url = match &self.router {
            Some(router) => router.url.clone(),
            None => url_of(&|copy, _| Some(&copy.key) == live_key.as_ref()),
        };
        let staged = |copy: &Replica, traffic: f64| {
            Some(&copy.key) != live_key.as_ref() && (traffic == 0.0 || self.router.is_none())
        };
        Ok(Observation { instances, live: live.map(Into::into), url, preview_url: url_of(&staged) })
    }

    /// The traffic of a copy relative to the others: by its weight in the router, without one the same for each.
    pub(super) fn traffic(&self, scene: &Scene, copy: &Replica) -> f64 {
        match &self.router {
            None => f64::from(u8::from(copy.is_alive)),
            Some(_) => {
                let server = scene.servers.get(&self.server_of(copy));
                let here = server.filter(|server| copy.is_alive && server.endpoint == self.endpoint(copy));
                here.map_or(0.0, |server| f64::from(server.traffic()))
            }
        }
    }
}

/// The promoted release while it has any traffic; else the one with most; else, when nothing has traffic, the promoted
/// one.
fn live(scene: &Scene, traffic: &[f64]) -> Option<ReleaseRecord> {
    let mut shares: BTreeMap<ReleaseKey, (f64, &ReleaseRecord)> = BTreeMap::new();
    for (copy, traffic) in scene.copies.iter().zip(traffic) {
        shares.entry(copy.key.clone()).or_insert((0.0, &copy.record.release)).0 += traffic;
    }
    let promoted = scene.promoted.as_ref();
    if let Some(promoted) = promoted
        && shares.get(&promoted.key()).is_some_and(|(share, _)| *share > 0.0)
    {
        return Some(promoted.clone());
    }
    let most = shares.into_values().filter(|(share, _)| *share > 0.0).max_by(|a, b| a.0.total_cmp(&b.0));
    most.map(|(_, release)| release).or(promoted).cloned()
}

pub(super) async fn read_json<T: serde::de::DeserializeOwned>(host: &Local, path: &str) -> Result<Option<T>, Error> {
    let Some(content) = host.read(path).await? else { return Ok(None) };
    let parsed = serde_json::from_slice(&content);
    parsed.map(Some).map_err(|e| Error::host(format!("{} cannot be understood", host.absolute(path)), e))
}
