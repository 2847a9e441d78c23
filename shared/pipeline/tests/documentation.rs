//! The examples of `docs/pipelines.md` are one valid project.

use cdflow_pipeline::{Configuration, Deployment, Request, SourceFile, compile, compile_deployment};

const PAGE: &str = include_str!("../../../docs/pipelines.md");
const OPEN: &str = "```yaml cdflow";

/// Each block marked `yaml cdflow`, named after its line in the page.
fn examples() -> Vec<SourceFile> {
    let mut examples = Vec::new();
    let mut lines = PAGE.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line == OPEN {
            let text: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
            examples.push(SourceFile::new(format!("pipelines.md:{}", number + 1), text.join("\n")));
        }
    }
    examples
}

fn project() -> Configuration {
    Configuration::parse(examples()).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn the_examples_together_are_a_valid_project() {
    assert!(examples().len() >= 6, "blocks marked `yaml cdflow`: {}", examples().len());
    let project = project();
    assert_eq!(project.pipelines.len(), 2);
    assert!(project.services.contains_key("storefront"));
}

/// Ids of the steps of a stage, a verification left out as the page writes it.
fn steps(strategy: &str, watch: bool) -> Vec<String> {
    let mut files = examples();
    let watch = if watch { "watch: 1h" } else { "" };
    let pipeline = format!(
        "kind: Pipeline\nname: table\nservice: storefront\nstages:\n- deploy: prod\n  strategy: {strategy}\n  verify: {{}}\n  \
         before: [{{ run: a }}]\n  steps: [{{ run: b }}]\n  on-rollback: [{{ run: c }}]\n  {watch}\n"
    );
    files.push(SourceFile::new("table.yaml", pipeline));
    let project = Configuration::parse(files).unwrap_or_else(|errors| panic!("{errors}"));
    let request = Request { pipeline: "table".into(), version: Some("v1".into()), ..Request::default() };
    let plan = compile(&project, &request).unwrap_or_else(|errors| panic!("{errors}"));
    plan.stages[0].steps.iter().map(|step| step.id.clone()).collect()
}

#[test]
fn the_table_of_steps_is_what_is_compiled() {
    let begin = "approve lock observe before-1";
    let whole = [
        (
            "rolling",
            "stage-25 shift-25 stage-50 shift-50 stage-75 shift-75 stage-100 shift-100 verify-100 promote step-1",
        ),
        ("blue-green", "stage-100 shift-100 verify-100 promote step-1"),
        (
            "{ canary: [5%, 25%, 50%] }",
            "stage-5 shift-5 verify-5 stage-25 shift-25 verify-25 stage-50 shift-50 verify-50 promote step-1",
        ),
    ];
    for (strategy, middle) in whole {
        let plain = format!("{begin} {middle} retire promoted unlock");
        assert_eq!(steps(strategy, false).join(" "), plain, "{strategy}");
        let watched = format!("{begin} {middle} promoted unlock watch relock retire unlock-2");
        assert_eq!(steps(strategy, true).join(" "), watched, "{strategy} with a watch");
    }
}

#[test]
fn the_rollback_and_the_floor_are_as_described() {
    let project = project();
    let request = Request { pipeline: "storefront".into(), version: Some("v1".into()), ..Request::default() };
    let plan = compile(&project, &request).unwrap_or_else(|errors| panic!("{errors}"));
    let staging = &plan.stages[0];
    let rollback: Vec<&str> = staging.rollback.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(
        rollback.join(" "),
        "rollback-lock rollback-stage rollback-shift rollback-promote rollback-retire rollback-step-1 rollback-unlock"
    );
    // The stage before prod asks for as much as the floor of prod demands.
    assert_eq!(plan.stages[2].steps[0].id, "lock");
    let deployment = Deployment {
        service: "storefront".into(),
        version: "v1".into(),
        environment: "prod".into(),
        ..Deployment::default()
    };
    let plan = compile_deployment(&project, &deployment).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(plan.stages[0].steps[0].id, "approve");
}
