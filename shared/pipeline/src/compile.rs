//! From a checked configuration and what is asked for to a [`Plan`].

mod approval;
mod deploy;
mod inputs;
mod steps;
mod target;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::check::{expected_one_of, needs, stage_id};
use crate::configuration::{Configuration, Kind};
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::model::{self, Pipeline};
use crate::nearest;
use crate::plan::{Action, Artifact, Plan, Stage, Step};
use deploy::DeployStage;

pub(crate) use target::{Said, Target, target};

/// A run of a pipeline that somebody or something asks for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Request {
    /// The project, `default` if empty.
    pub project: String,
    /// Name of the pipeline.
    pub pipeline: String,
    /// Revision of the configuration.
    pub revision: u64,
    /// What is released; needed if the chosen stages deploy.
    pub version: Option<String>,
    /// Where the version's archive is, if not where the service says.
    pub location: Option<String>,
    /// `sha256:<hex>` of the archive, if known.
    pub digest: Option<String>,
    /// Values for the pipeline's inputs.
    pub inputs: BTreeMap<String, Value>,
    /// Only these stages; all if `None`. What lies between chosen stages is left out, their order stays.
    pub stages: Option<Vec<String>>,
    /// Data of the event that starts it, for expressions.
    pub event: Value,
}

/// One service to one environment, without a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Deployment {
    /// The project, `default` if empty.
    pub project: String,
    /// Revision of the configuration.
    pub revision: u64,
    /// Name of the service.
    pub service: String,
    /// What is released.
    pub version: String,
    /// Name of the environment.
    pub environment: String,
    /// Name of the infrastructure; needed where the environment has several.
    pub infrastructure: Option<String>,
    /// Where the version's archive is, if not where the service says.
    pub location: Option<String>,
    /// `sha256:<hex>` of the archive, if known.
    pub digest: Option<String>,
}

/// Compiles a run of a pipeline: every reference resolved, every default filled in, the approvals that environments
/// demand put in where the pipeline does not ask for them itself.
///
/// The same configuration and request give the same plan.
///
/// # Errors
/// Everything about the request that does not fit the configuration.
pub fn compile(configuration: &Configuration, request: &Request) -> Result<Plan, Diagnostics> {
    let pipeline = configuration.pipelines.get(&request.pipeline).ok_or_else(|| {
        let known: Vec<&str> = configuration.pipelines.keys().map(String::as_str).collect();
        Diagnostics::one(no_such(Kind::Pipeline, &request.pipeline, &known))
    })?;
    let mut found = Vec::new();
    let inputs = inputs::resolve(pipeline, &request.inputs, &mut found);
    let chosen = chosen(pipeline, request.stages.as_deref(), &mut found);
    let service = pipeline.service.as_ref().and_then(|service| configuration.services.get(service.as_str()));
    let deploys = chosen.iter().any(|index| pipeline.stages[*index].deploy.is_some());
    let artifact = match (service, &request.version) {
        (Some(service), Some(version)) => {
            artifact(service, version, request.location.as_deref(), request.digest.as_deref(), &mut found)
        }
        (Some(_), None) if deploys => {
            let error = Diagnostic::of_request(Code::Version, "which version is to be released?");
            found.push(error.help("say it with `--version`, or start the pipeline by an artifact event"));
            None
        }
        _ => None,
    };

    let needs = needs_among(pipeline, &chosen);
    let mut stages = Vec::with_capacity(chosen.len());
    for index in &chosen {
        let stage = &pipeline.stages[*index];
        let id = stage_id(stage).unwrap_or_default().to_owned();
        let needs = needs.get(id.as_str()).cloned().unwrap_or_default();
        let condition = stage.r#if.as_ref().map(|condition| condition.as_str().to_owned());
        let timeout_ms = stage.timeout.as_ref().map_or(0, |timeout| timeout.milliseconds());
        let plain = Stage { id, needs, condition, deploy: None, steps: Vec::new(), rollback: Vec::new(), timeout_ms };
        if let (Some(environment), Some(service)) = (&stage.deploy, service) {
            let infrastructure = stage.infrastructure.as_ref().map(|at| at.as_str());
            match target(configuration, service.name.as_str(), environment.as_str(), infrastructure) {
                Ok(target) => {
                    let deploy =
                        DeployStage { target, said: Some(Said { pipeline, values: &inputs }), stage: Some(stage) };
                    stages.push(deploy.compile(configuration, plain));
                }
                Err(reason) => found.push(unfit(environment.as_str(), reason)),
            }
        } else if let Some(approval) = &stage.approve {
            let step = approval::ask(configuration, approval, service);
            stages.push(Stage { steps: vec![step], ..plain });
        } else {
            stages.push(Stage { steps: steps::hooks("step", &stage.steps, "default"), ..plain });
        }
    }
    approval::put_in_floors(configuration, &mut stages);
    Diagnostics::or(
        found,
        Plan {
            project: project_of(&request.project),
            pipeline: request.pipeline.clone(),
            revision: request.revision,
            service: service.map(|service| service.name.as_str().to_owned()),
            artifact,
            inputs,
            event: request.event.clone(),
            stages,
        },
    )
}

/// Compiles the deployment of one version to one environment: a rolling one. The environment's approvals are asked
/// for as in any pipeline.
///
/// # Errors
/// Everything about the request that does not fit the configuration.
pub fn compile_deployment(configuration: &Configuration, request: &Deployment) -> Result<Plan, Diagnostics> {
    let mut found = Vec::new();
    let service = configuration.services.get(&request.service);
    if service.is_none() {
        let known: Vec<&str> = configuration.services.keys().map(String::as_str).collect();
        found.push(no_such(Kind::Service, &request.service, &known));
    }
    if !configuration.environments.contains_key(&request.environment) {
        let known: Vec<&str> = configuration.environments.keys().map(String::as_str).collect();
        found.push(no_such(Kind::Environment, &request.environment, &known));
    }
    if let Some(infrastructure) = &request.infrastructure
        && !configuration.infrastructures.contains_key(infrastructure)
    {
        let known: Vec<&str> = configuration.infrastructures.keys().map(String::as_str).collect();
        found.push(no_such(Kind::Infrastructure, infrastructure, &known));
    }
    let artifact = service.and_then(|service| {
        artifact(service, &request.version, request.location.as_deref(), request.digest.as_deref(), &mut found)
    });
    let mut stages = Vec::new();
    match target(configuration, &request.service, &request.environment, request.infrastructure.as_deref()) {
        Ok(target) => {
            let plain = Stage {
                id: request.environment.clone(),
                needs: Vec::new(),
                condition: None,
                deploy: None,
                steps: Vec::new(),
                rollback: Vec::new(),
                timeout_ms: 0,
            };
            stages.push(DeployStage { target, said: None, stage: None }.compile(configuration, plain));
        }
        Err(None) => {}
        Err(reason) => found.push(unfit(&request.environment, reason)),
    }
    approval::put_in_floors(configuration, &mut stages);
    Diagnostics::or(
        found,
        Plan {
            project: project_of(&request.project),
            pipeline: "deploy".into(),
            revision: request.revision,
            service: Some(request.service.clone()),
            artifact,
            inputs: BTreeMap::new(),
            event: Value::Null,
            stages,
        },
    )
}

fn project_of(project: &str) -> String {
    if project.is_empty() { "default".into() } else { project.to_owned() }
}

fn no_such(kind: Kind, wanted: &str, known: &[&str]) -> Diagnostic {
    let shown = model::scalar::shortened(wanted);
    Diagnostic::of_request(Code::NoSuchThing, format!("there is no {} `{shown}`", kind.in_words()))
        .help(expected_one_of(wanted, kind, known))
}

fn unfit(environment: &str, reason: Option<(String, String)>) -> Diagnostic {
    let (message, help) = reason.unwrap_or_else(|| {
        let message = format!("`{environment}` or its infrastructure does not exist");
        (message, "apply the configuration again; `cdflow validate` says what is missing".into())
    });
    Diagnostic::of_request(Code::Unfit, message).help(help)
}

/// Indices of the stages that are wanted, in the order of the document.
fn chosen(pipeline: &Pipeline, wanted: Option<&[String]>, found: &mut Vec<Diagnostic>) -> Vec<usize> {
    let Some(wanted) = wanted else {
        return (0..pipeline.stages.len()).collect();
    };
    let ids: Vec<&str> = pipeline.stages.iter().filter_map(|stage| stage_id(stage)).collect();
    if wanted.is_empty() {
        let error = Diagnostic::of_request(Code::NoSuchThing, "no stage was chosen");
        found.push(error.help(format!("expected some of {}", ids.join(", "))));
    }
    for name in wanted {
        if !ids.contains(&name.as_str()) {
            let shown = model::scalar::shortened(name);
            let error = Diagnostic::of_request(Code::NoSuchThing, format!("there is no stage `{shown}`"));
            found.push(error.help(match nearest(name, ids.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("expected some of {}", ids.join(", ")),
            }));
        }
    }
    let is_wanted =
        |index: &usize| stage_id(&pipeline.stages[*index]).is_some_and(|id| wanted.iter().any(|name| name == id));
    (0..pipeline.stages.len()).filter(is_wanted).collect()
}

/// What each chosen stage waits for: through stages that are left out, to the chosen ones behind them.
fn needs_among(pipeline: &Pipeline, chosen: &[usize]) -> BTreeMap<String, Vec<String>> {
    let index_of: BTreeMap<&str, usize> =
        pipeline.stages.iter().enumerate().filter_map(|(index, stage)| Some((stage_id(stage)?, index))).collect();
    let mut found = BTreeMap::new();
    for start in chosen {
        let mut needed = Vec::new();
        let mut seen = BTreeSet::new();
        let mut ahead: Vec<&str> = needs(pipeline, *start);
        ahead.reverse();
        while let Some(id) = ahead.pop() {
            if !seen.insert(id) {
                continue;
            }
            match index_of.get(id) {
                Some(index) if chosen.contains(index) => needed.push(id.to_owned()),
                Some(index) => ahead.extend(needs(pipeline, *index).into_iter().rev()),
                None => {}
            }
        }
        if let Some(id) = stage_id(&pipeline.stages[*start]) {
            found.insert(id.to_owned(), needed);
        }
    }
    found
}

fn artifact(
    service: &model::Service,
    version: &str,
    location: Option<&str>,
    digest: Option<&str>,
    found: &mut Vec<Diagnostic>,
) -> Option<Artifact> {
    const LONGEST: usize = 128;
    let before = found.len();
    // A version becomes part of paths and addresses.
    let well = version.starts_with(|c: char| c.is_ascii_alphanumeric())
        && version.chars().all(|c| c.is_ascii_alphanumeric() || ".-_+".contains(c))
        && version.len() <= LONGEST
        && !version.contains("..");
    if !well {
        let shown = model::scalar::shortened(version);
        let error = Diagnostic::of_request(Code::Version, format!("`{shown}` is not a version"));
        found.push(error.help(format!(
            "expected letters, digits and single `.`, `-`, `_`, `+`, at most {LONGEST}; for example `v1.2.0`"
        )));
    }
    let digest = digest.unwrap_or_default();
    let is_digest = |hex: &str| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !digest.is_empty() && !digest.strip_prefix("sha256:").is_some_and(is_digest) {
        let shown = model::scalar::shortened(digest);
        let error = Diagnostic::of_request(Code::Version, format!("`{shown}` is not a digest"));
        found.push(error.help("expected `sha256:` and 64 lower-case hexadecimal digits"));
    }
    let location = match (location.filter(|location| !location.is_empty()), &service.artifact.value) {
        (Some(location), _) if model::is_archive(location) => location.to_owned(),
        (Some(location), _) => {
            let shown = model::scalar::shortened(location);
            let error = Diagnostic::of_request(Code::Version, format!("`{shown}` is not where an archive can be"));
            found.push(error.help("expected `https://…`, `http://…` or `file:…`"));
            String::new()
        }
        (None, model::Artifact::Archive(archive)) => archive.of(version),
        (None, model::Artifact::Image(image)) => {
            let message = format!("`{}` is an image, and machines run archives", service.name.as_str());
            let error = Diagnostic::new(Code::Unfit, &image.place, message);
            found.push(error.help("use `archive:` for the service's artifact, or say where the version's archive is"));
            String::new()
        }
    };
    (found.len() == before).then(|| Artifact { version: version.to_owned(), location, digest: digest.to_owned() })
}

/// A step without condition, limit and retry.
fn step(id: impl Into<String>, action: Action) -> Step {
    Step { id: id.into(), action, condition: None, timeout_ms: 0, retry: None }
}
