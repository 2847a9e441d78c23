//! The configuration of the project that the console shows.

use std::{sync::Arc, time::Duration};

use cdflow_access::{Directory, Group, Person};
use cdflow_bus::{ConfigurationStore, Revision};
use cdflow_pipeline::{Bundle, Configuration};
use futures::StreamExt as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::read_model::Known;

/// A configuration at one revision.
#[derive(Debug)]
pub(crate) struct ProjectConfiguration {
    revision: Revision,
    bundle: Bundle,
    /// `Err` says why what is stored cannot be used: it was checked before it was stored, so another release wrote it.
    configuration: Result<Configuration, String>,
    directory: Directory,
}

impl Default for ProjectConfiguration {
    fn default() -> Self {
        Self {
            revision: 0,
            bundle: Bundle::default(),
            configuration: Ok(Configuration::default()),
            directory: Directory::default(),
        }
    }
}

impl ProjectConfiguration {
    /// What is stored under a revision.
    pub(crate) fn read(revision: Revision, body: &[u8]) -> Self {
        let bundle: Bundle = match serde_json::from_slice(body) {
            Ok(bundle) => bundle,
            Err(error) => {
                let configuration = Err(format!("the stored configuration is no bundle: {error}"));
                return Self { revision, configuration, ..Self::default() };
            }
        };
        let configuration = bundle.parse().map_err(|diagnostics| diagnostics.to_string());
        let directory = configuration.as_ref().map(directory).unwrap_or_default();
        Self { revision, bundle, configuration, directory }
    }

    /// 0 when nothing was ever applied.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// What runs are compiled from.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(crate) fn configuration(&self) -> Result<&Configuration, &str> {
        self.configuration.as_ref().map_err(String::as_str)
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Whether this person is let in. While the configuration names nobody, whoever holds a token is: somebody has to
    /// apply the first configuration.
    pub(crate) fn knows(&self, person: &str) -> bool {
        self.directory.person(person).is_some()
            || (self.configuration.is_ok() && self.directory.people().next().is_none())
    }

    /// Names for the board; environments in the order in which pipelines pass through them.
    pub(crate) fn known(&self) -> Known {
        let Ok(configuration) = &self.configuration else { return Known::default() };
        let mut environments: Vec<String> = Vec::new();
        let in_pipelines = configuration.pipelines.values().flat_map(|pipeline| &pipeline.stages);
        let in_pipelines = in_pipelines.filter_map(|stage| stage.deploy.as_ref()).map(|name| name.as_str().to_owned());
        for name in in_pipelines.chain(configuration.environments.keys().cloned()) {
            if !environments.contains(&name) {
                environments.push(name);
            }
        }
        Known { services: configuration.services.keys().cloned().collect(), environments }
    }
}

fn directory(configuration: &Configuration) -> Directory {
    let people = configuration.people.iter().map(|(name, person)| Person {
        name: name.clone(),
        email: person.email.as_ref().map(|email| email.as_str().to_owned()),
    });
    let groups =
        configuration.groups.keys().map(|name| Group { name: name.clone(), members: configuration.members(name) });
    Directory::new(people, groups)
}

/// Follows the stored configuration until `stop`. The first value is there when this returns.
pub(crate) async fn follow(
    store: ConfigurationStore,
    project: String,
    stop: CancellationToken,
) -> Result<watch::Receiver<Arc<ProjectConfiguration>>, cdflow_bus::Error> {
    let first = store.load(&project).await?;
    let first = first.map(|(revision, body)| ProjectConfiguration::read(revision, &body)).unwrap_or_default();
    let (sender, receiver) = watch::channel(Arc::new(first));
    tokio::spawn(async move {
        while !stop.is_cancelled() && !sender.is_closed() {
            let followed = tokio::select! {
                followed = changes(&store, &project, &sender) => followed,
                () = stop.cancelled() => return,
            };
            if let Err(error) = followed {
                tracing::warn!(%error, "following the configuration; trying again");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    Ok(receiver)
}

async fn changes(
    store: &ConfigurationStore,
    project: &str,
    sender: &watch::Sender<Arc<ProjectConfiguration>>,
) -> Result<(), cdflow_bus::Error> {
    let mut changes = std::pin::pin!(store.watch(project).await?);
    while let Some((revision, body)) = changes.next().await {
        let next = ProjectConfiguration::read(revision, &body);
        if let Err(reason) = next.configuration() {
            tracing::error!(revision, reason, "the stored configuration cannot be used");
        }
        sender.send_if_modified(|known| {
            let newer = revision > known.revision();
            if newer {
                *known = Arc::new(next);
            }
            newer
        });
    }
    Ok(())
}
