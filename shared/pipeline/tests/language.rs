//! From documents to configurations and plans.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use cdflow_pipeline::plan::{Action, Plan, Verb};
use cdflow_pipeline::{
    ArtifactEvent, Bundle, Configuration, Deployment, Diagnostics, Request, SourceFile, compile, compile_deployment,
    init_example, matching, schema,
};
use serde_json::{Value, json};

const INSTALLATION: &str = include_str!("installation.yaml");

fn file(text: impl Into<String>) -> Vec<SourceFile> {
    vec![SourceFile::new("cdflow.yaml", text)]
}

fn installation() -> Configuration {
    Configuration::parse(file(INSTALLATION)).unwrap_or_else(|errors| panic!("{errors}"))
}

fn request() -> Request {
    Request { pipeline: "storefront".into(), version: Some("v1.2.0".into()), revision: 7, ..Request::default() }
}

fn step_ids(plan: &Plan, stage: &str) -> Vec<String> {
    let stage = plan.stages.iter().find(|s| s.id == stage).unwrap();
    stage.steps.iter().map(|step| step.id.clone()).collect()
}

/// The installation with a change.
fn changed(from: &str, to: &str) -> Result<Configuration, Diagnostics> {
    assert!(INSTALLATION.contains(from), "{from}");
    Configuration::parse(file(INSTALLATION.replacen(from, to, 1)))
}

#[test]
fn the_plan_of_the_documents_example() {
    let plan = compile(&installation(), &request()).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&plan).unwrap());
}

#[test]
fn a_plan_survives_being_stored() {
    let plan = compile(&installation(), &request()).unwrap();
    let stored: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
    assert_eq!(stored, plan);
    assert_eq!(compile(&installation(), &request()).unwrap(), plan, "the same request gives the same plan");
}

#[test]
fn each_strategy_compiles_to_its_steps() {
    let with = |strategy: &str| {
        let configuration = changed("strategy: blue-green", strategy).unwrap_or_else(|errors| panic!("{errors}"));
        step_ids(&compile(&configuration, &request()).unwrap(), "staging")
    };
    assert_eq!(with("strategy: blue-green")[2..6], ["stage-100", "shift-100", "verify-100", "promote"]);
    assert_eq!(
        with("strategy: { canary: [10%, 100%] }")[2..9],
        ["stage-10", "shift-10", "verify-10", "stage-100", "shift-100", "verify-100", "promote"]
    );
    // On two hosts a batch is at least half of them.
    assert_eq!(
        with("strategy: { rolling: { batch: 40% } }")[2..8],
        ["stage-40", "shift-40", "stage-100", "shift-100", "verify-100", "promote"]
    );
    assert_eq!(
        with("strategy: rolling")[2..8],
        ["stage-50", "shift-50", "stage-100", "shift-100", "verify-100", "promote"]
    );
}

#[test]
fn a_deployment_needs_no_pipeline_but_the_environments_approval() {
    let deployment = |environment: &str| Deployment {
        service: "storefront".into(),
        version: "v2".into(),
        environment: environment.into(),
        ..Deployment::default()
    };
    let dev = compile_deployment(&installation(), &deployment("dev")).unwrap();
    assert_eq!((dev.pipeline.as_str(), dev.project.as_str()), ("deploy", "default"));
    assert_eq!(step_ids(&dev, "dev")[..2], ["lock", "observe"]);
    let prod = compile_deployment(&installation(), &deployment("prod")).unwrap();
    assert_eq!(step_ids(&prod, "prod")[..2], ["approve", "lock"]);
    let Action::Approve { by, groups, .. } = &prod.stages[0].steps[0].action else { panic!() };
    assert_eq!(by, &BTreeMap::from([("release-managers".to_owned(), 1)]));
    assert_eq!(groups["release-managers"], ["ana", "bo"]);
    let error = compile_deployment(&installation(), &deployment("prud")).unwrap_err();
    assert_eq!(error.records()[0].help, "did you mean `prod`?");
}

#[test]
fn no_pipeline_goes_around_the_environments_approval() {
    let first_step = |configuration: Result<Configuration, Diagnostics>, stages: Option<&[&str]>| {
        let configuration = configuration.unwrap_or_else(|errors| panic!("{errors}"));
        let stages = stages.map(|stages| stages.iter().map(|&stage| stage.to_owned()).collect());
        let plan = compile(&configuration, &Request { stages, ..request() }).unwrap();
        step_ids(&plan, "prod")[0].clone()
    };
    let approve = "  - approve: { by: { release-managers: 1, sre: 1 }, expires: 24h }";
    let prod = "  - deploy: prod";
    assert_eq!(first_step(Ok(installation()), None), "lock", "the pipeline asks itself");
    assert_eq!(first_step(changed(approve, ""), None), "approve", "nothing is asked");
    assert_eq!(
        first_step(changed(approve, "  - approve: { by: { sre: 1 } }"), None),
        "approve",
        "somebody else is asked"
    );
    assert_eq!(
        first_step(changed(approve, &format!("{approve}\n    if: \"false\"")), None),
        "approve",
        "the question can be skipped"
    );
    assert_eq!(
        first_step(changed(prod, &format!("{prod}\n    if: always()")), None),
        "approve",
        "the stage starts also after a rejection"
    );
    assert_eq!(
        first_step(changed(prod, &format!("{prod}\n    if: \"'v' != ''\"")), None),
        "lock",
        "a condition that means success, too"
    );
    assert_eq!(
        first_step(changed(prod, &format!("{prod}\n    needs: [staging]")), None),
        "approve",
        "the stage does not wait for the question"
    );
    assert_eq!(
        first_step(
            changed(prod, &format!("  - id: between\n    if: always()\n    steps: [{{ wait: 1s }}]\n{prod}")),
            None
        ),
        "approve",
        "a stage between lets a rejection through"
    );
    assert_eq!(
        first_step(changed(prod, &format!("  - id: between\n    steps: [{{ wait: 1s }}]\n{prod}")), None),
        "lock",
        "a plain stage between does not"
    );
    assert_eq!(first_step(Ok(installation()), Some(&["prod"])), "approve", "the question was not chosen");
}

#[test]
fn chosen_stages_keep_their_order() {
    let stages = Some(vec!["prod".into(), "dev".into()]);
    let plan = compile(&installation(), &Request { stages, ..request() }).unwrap();
    let found: Vec<_> = plan.stages.iter().map(|s| (s.id.as_str(), s.needs.clone())).collect();
    assert_eq!(found, [("dev", vec![]), ("prod", vec!["dev".to_owned()])]);
    let stages = Some(vec!["stagin".into()]);
    let error = compile(&installation(), &Request { stages, ..request() }).unwrap_err();
    assert_eq!(error.records()[0].help, "did you mean `staging`?");
}

#[test]
fn inputs_are_typed_and_defaults_filled_in() {
    let compiled = |said: Value| {
        let inputs = said.as_object().unwrap().clone().into_iter().collect();
        compile(&installation(), &Request { inputs, ..request() })
    };
    let plan = compiled(json!({ "replicas": "3", "zones": "a,b", "ticket": "OPS-1" })).unwrap();
    assert_eq!(
        json!(plan.inputs),
        json!({ "dry": false, "log-level": null, "replicas": 3, "ticket": "OPS-1", "zones": ["a", "b"] })
    );
    let wrong = json!({
        "replicas": 0, "dry": "maybe", "log-level": "wran", "ticket": "x OPS-1", "zones": 5, "replics": 1
    });
    let messages: Vec<String> =
        compiled(wrong).unwrap_err().records().into_iter().map(|r| format!("{} ({})", r.message, r.help)).collect();
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn an_input_of_the_run_is_above_all_variables_and_is_not_evaluated() {
    let level = |inputs: Value| {
        let inputs = inputs.as_object().unwrap().clone().into_iter().collect();
        let plan = compile(&installation(), &Request { inputs, ..request() }).unwrap();
        plan.stages[0].deploy.as_ref().unwrap().target.variables["LOG_LEVEL"].clone()
    };
    assert_eq!(level(json!({})), "debug");
    assert_eq!(level(json!({ "log-level": "info" })), "${{ inputs[\"log-level\"] }}");
}

#[test]
fn versions_that_are_no_versions_are_refused() {
    for version in ["", "../../etc", "a..b", "v 1", "v/1", "-v", &"v".repeat(200), "v1\n"] {
        let error = compile(&installation(), &Request { version: Some(version.into()), ..request() }).unwrap_err();
        assert_eq!(error.records()[0].code, "CDF-1103", "{version:?}");
    }
    let request = Request {
        location: Some("file:/tmp/x.tar.gz".into()),
        digest: Some(format!("sha256:{}", "a".repeat(64))),
        ..request()
    };
    let artifact = compile(&installation(), &request).unwrap().artifact.unwrap();
    assert_eq!((artifact.location.as_str(), artifact.digest.len()), ("file:/tmp/x.tar.gz", 71));
    for (location, digest) in [(Some("ftp://x"), None), (None, Some("sha256:xyz")), (None, Some("md5:1"))] {
        let request = Request { location: location.map(Into::into), digest: digest.map(Into::into), ..request.clone() };
        assert!(compile(&installation(), &request).is_err());
    }
}

#[test]
fn an_event_starts_the_pipelines_of_its_artifact() {
    let event =
        |name: &str, version: &str| ArtifactEvent { name: name.into(), version: version.into(), ..Default::default() };
    let reason = |event: &ArtifactEvent| {
        let found = matching(&installation(), event).into_iter().find(|m| m.pipeline == "storefront").unwrap();
        assert_eq!(found.starts(), found.ignored_because.is_none());
        found.ignored_because
    };
    assert_eq!(reason(&event("storefront", "v1.2.0")), None);
    assert_eq!(reason(&event("storefront", "nightly")).unwrap(), "the tag `nightly` does not match `v*`");
    assert_eq!(
        reason(&event("backoffice", "v1")).unwrap(),
        "`backoffice` is another artifact: the artifact of its service is `storefront`"
    );
    let by_location = ArtifactEvent { location: "file:/srv/artifacts/storefront-v3.tar.gz".into(), ..event("x", "v3") };
    assert_eq!(reason(&by_location), None);
    let manual = matching(&installation(), &event("storefront", "v1"));
    let manual = manual.iter().find(|m| m.pipeline == "migrate").unwrap();
    assert!(manual.ignored_because.as_ref().unwrap().contains("not started by artifacts"));
}

#[test]
fn a_bundle_points_errors_at_the_original_lines() {
    let mut bundle = installation().bundle();
    let stored: Bundle = serde_json::from_str(&serde_json::to_string(&bundle).unwrap()).unwrap();
    assert_eq!(stored, bundle);
    assert_eq!(compile(&stored.parse().unwrap(), &request()).unwrap(), compile(&installation(), &request()).unwrap());
    let without_profile: Vec<_> = bundle.documents.iter().filter(|d| d.kind != "HealthProfile").cloned().collect();
    bundle.documents = without_profile;
    let error = bundle.parse().unwrap_err();
    let record = &error.records()[0];
    let line = INSTALLATION.lines().position(|line| line.starts_with("health: web")).unwrap() + 1;
    assert_eq!((record.file.as_str(), record.line, record.column), ("cdflow.yaml", line, 9));
    assert!(error.to_string().contains("health: web"), "{error}");

    let other =
        Configuration::parse([SourceFile::new("b.yaml", "# x\n---\nkind: HealthProfile\nname: web\nbake: 1m\n")]);
    bundle.merge(other.unwrap().bundle());
    assert_eq!(bundle.parse().unwrap().health_profiles["web"].bake.as_ref().unwrap().milliseconds(), 60_000);
}

#[test]
fn what_init_writes_is_whole() {
    let configuration = Configuration::parse(init_example()).unwrap_or_else(|errors| panic!("{errors}"));
    let plan = compile(&configuration, &request()).unwrap();
    assert_eq!(step_ids(&plan, "prod")[0], "lock", "its pipeline asks for the approval that prod demands");
}

#[test]
fn the_repositorys_example_is_whole() {
    let files = [
        ("service.yaml", include_str!("../../../examples/storefront/cdflow/service.yaml")),
        ("environments.yaml", include_str!("../../../examples/storefront/cdflow/environments.yaml")),
        ("people.yaml", include_str!("../../../examples/storefront/cdflow/people.yaml")),
        ("pipeline.yaml", include_str!("../../../examples/storefront/cdflow/pipeline.yaml")),
    ];
    let files = files.map(|(path, text)| SourceFile::new(path, text));
    let configuration = Configuration::parse(files).unwrap_or_else(|errors| panic!("{errors}"));
    let plan = compile(&configuration, &request()).unwrap();
    let stages: Vec<&str> = plan.stages.iter().map(|stage| stage.id.as_str()).collect();
    assert_eq!(stages, ["dev", "qa", "staging", "approve", "prod"]);
    assert_eq!(step_ids(&plan, "prod")[0], "lock", "its pipeline asks for the approval that prod demands");
}

#[test]
fn rollbacks_go_back_to_what_was_there() {
    let plan = compile(&installation(), &request()).unwrap();
    let qa = plan.stages.iter().find(|s| s.id == "qa").unwrap();
    let ids: Vec<&str> = qa.rollback.iter().map(|s| s.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "rollback-lock",
            "rollback-stage",
            "rollback-shift",
            "rollback-promote",
            "rollback-retire",
            "rollback-step-1",
            "rollback-unlock"
        ]
    );
    assert_eq!(qa.rollback[0].action, Action::Lock { only_if_latest: true });
    assert_eq!(qa.rollback[1].action, Action::Verb { verb: Verb::Stage, percent: 100 });
}

#[test]
fn ids_of_steps_are_unique_in_every_stage() {
    let plan = compile(&installation(), &request()).unwrap();
    for stage in &plan.stages {
        let mut ids: Vec<&str> = stage.steps.iter().chain(&stage.rollback).map(|s| s.id.as_str()).collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all, "{}", stage.id);
    }
}

#[test]
fn the_schema_knows_every_kind_and_resolves() {
    let schema = schema();
    let text = schema.to_string();
    for (at, _) in text.match_indices("\"#/$defs/") {
        let name = text[at + 9..].split('"').next().unwrap();
        assert!(schema["$defs"].get(name).is_some(), "{name}");
    }
    let of_kind = |kind: &str| {
        let all = schema["allOf"].as_array().unwrap();
        all.iter().find(|s| s["if"]["properties"]["kind"]["const"] == kind).unwrap()["then"].clone()
    };
    assert_eq!(of_kind("Service")["required"], json!(["name", "artifact", "vm"]));
    assert_eq!(of_kind("Service")["additionalProperties"], json!(false));
    assert_eq!(of_kind("Pipeline")["required"], json!(["name", "stages"]));
    assert!(of_kind("HealthProfile")["properties"].get("min-ticks").is_some());
    insta::assert_snapshot!(serde_json::to_string_pretty(&of_kind("HealthProfile")).unwrap());
}
