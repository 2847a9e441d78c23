//! One service on one infrastructure of one environment.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::configuration::Configuration;
use crate::model::{self, Environment, Infrastructure, Pipeline, Service, Variables};
use crate::plan::{self, Platform, Router, Transport};

/// What a deploy stage deploys, and where.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) service: &'a Service,
    pub(crate) environment: &'a Environment,
    pub(crate) infrastructure: &'a Infrastructure,
}

/// Inputs of a run.
#[derive(Clone, Copy)]
pub(crate) struct Said<'a> {
    pub(crate) pipeline: &'a Pipeline,
    /// Defaults filled in; `null` where nobody said anything.
    pub(crate) values: &'a BTreeMap<String, Value>,
}

/// Finds what a service's deployment to an environment is about.
///
/// The error is what is wrong and what to do; `None` if one of them does not exist.
pub(crate) fn target<'a>(
    configuration: &'a Configuration,
    service: &str,
    environment: &str,
    infrastructure: Option<&str>,
) -> Result<Target<'a>, Option<(String, String)>> {
    let service = configuration.services.get(service).ok_or(None)?;
    let environment = configuration.environments.get(environment).ok_or(None)?;
    let offered: Vec<&str> = environment.infrastructure.iter().map(|at| at.as_str()).collect();
    let name = match (infrastructure, offered.as_slice()) {
        (Some(name), offered) if offered.contains(&name) => name,
        (Some(name), offered) => {
            let message = format!("`{name}` is not an infrastructure of `{}`", environment.name.as_str());
            return Err(Some((message, format!("expected one of {}", offered.join(", ")))));
        }
        (None, [only]) => only,
        (None, []) => return Err(None),
        (None, several) => {
            let message = format!("`{}` has several infrastructures", environment.name.as_str());
            return Err(Some((message, format!("say which: `infrastructure:` with one of {}", several.join(", ")))));
        }
    };
    let infrastructure = configuration.infrastructures.get(name).ok_or(None)?;
    Ok(Target { service, environment, infrastructure })
}

impl Target<'_> {
    /// As a driver needs it.
    pub(crate) fn for_plan(&self, said: Option<Said<'_>>) -> plan::Target {
        plan::Target {
            service: self.service.name.as_str().to_owned(),
            infrastructure: self.infrastructure.name.as_str().to_owned(),
            environment: self.environment.name.as_str().to_owned(),
            pool: self.pool().to_owned(),
            platform: self.platform(),
            variables: self.variables(said),
        }
    }

    /// Executors that can reach it.
    pub(crate) fn pool(&self) -> &str {
        self.infrastructure.pool.as_ref().map_or("default", |pool| pool.as_str())
    }

    /// Copies of the service on all hosts together.
    pub(crate) fn copies(&self) -> u32 {
        let hosts = u32::try_from(self.infrastructure.hosts.len()).unwrap_or(u32::MAX);
        hosts.saturating_mul(self.instances_per_host()).max(1)
    }

    fn instances_per_host(&self) -> u32 {
        self.service.vm.instances.as_ref().map_or(1, |count| count.get())
    }

    fn platform(&self) -> Platform {
        const READY_WITHIN_MS: i64 = 30_000;
        const DRAIN_MS: i64 = 5_000;
        let vm = &self.service.vm;
        Platform::Vm {
            transport: match self.infrastructure.transport.as_ref().map(|at| at.value) {
                None | Some(model::TransportKind::Local) => Transport::Local,
            },
            hosts: self.infrastructure.hosts.iter().map(|host| host.as_str().to_owned()).collect(),
            instances_per_host: self.instances_per_host(),
            root: self.infrastructure.root.as_str().to_owned(),
            ports: (self.infrastructure.ports.first, self.infrastructure.ports.last),
            start: vm.start.as_str().to_owned(),
            ready_path: vm.ready.as_ref().map_or("/", |ready| ready.http.as_str()).to_owned(),
            ready_within_ms: vm
                .ready
                .as_ref()
                .and_then(|ready| ready.within.as_ref())
                .map_or(READY_WITHIN_MS, |within| within.milliseconds()),
            drain_ms: vm.drain.as_ref().map_or(DRAIN_MS, |drain| drain.milliseconds()),
            router: self.infrastructure.router.as_ref().map(|router| Router::Haproxy {
                admin: router.haproxy.admin.as_str().to_owned(),
                backend: router.haproxy.backend.as_str().to_owned(),
                url: router.haproxy.url.as_str().to_owned(),
            }),
        }
    }

    /// Later layers win: service, environment, service in environment, infrastructure, service on infrastructure,
    /// input of the run.
    fn variables(&self, said: Option<Said<'_>>) -> BTreeMap<String, String> {
        let environment = self.environment.name.as_str();
        let infrastructure = self.infrastructure.name.as_str();
        let there = |overrides: &model::Entries<model::Reference, model::Overrides>, name: &str| -> Variables {
            let found = overrides.iter().find(|(place, _)| place.as_str() == name);
            found.map(|(_, overrides)| overrides.variables.clone()).unwrap_or_default()
        };
        let layers = [
            self.service.variables.clone(),
            self.environment.variables.clone(),
            there(&self.service.environments, environment),
            self.infrastructure.variables.clone(),
            there(&self.service.infrastructure, infrastructure),
        ];
        let written = layers.iter().flat_map(Variables::iter);
        let mut resolved: BTreeMap<String, String> =
            written.map(|(name, value)| (name.as_str().to_owned(), value.as_str().to_owned())).collect();
        if let Some(said) = said {
            for (name, input) in said.pipeline.inputs.iter() {
                let is_said = said.values.get(name.as_str()).is_some_and(|value| !value.is_null());
                if let (Some(variable), true) = (&input.variable, is_said) {
                    // A reference, not the value: what somebody says when starting a run is not evaluated.
                    let reference = format!("${{{{ inputs[\"{}\"] }}}}", name.as_str());
                    resolved.insert(variable.as_str().to_owned(), reference);
                }
            }
        }
        resolved
    }
}
