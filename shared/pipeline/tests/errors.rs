//! What people read when a document is wrong.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use cdflow_pipeline::{Configuration, Diagnostics, SourceFile};
use serde_json::Value;

const INSTALLATION: &str = include_str!("installation.yaml");

fn errors_of(text: impl Into<String>) -> Diagnostics {
    match Configuration::parse([SourceFile::new("cdflow.yaml", text)]) {
        Ok(_) => panic!("this is wrong and was accepted"),
        Err(errors) => errors,
    }
}

/// The errors of the installation with a change.
fn errors_with(from: &str, to: &str) -> Diagnostics {
    assert!(INSTALLATION.contains(from), "{from}");
    errors_of(INSTALLATION.replacen(from, to, 1))
}

/// Each as `line:column code message (help)`.
fn in_short(errors: &Diagnostics) -> String {
    let mut text = String::new();
    for record in errors.records() {
        let help = if record.help.is_empty() { String::new() } else { format!(" ({})", record.help) };
        writeln!(text, "{}:{} {} {}{help}", record.line, record.column, record.code, record.message).unwrap();
    }
    text
}

#[test]
fn errors_are_shown_with_the_lines_they_are_about() {
    let cases = [
        ("deploy: qa", "deploy: qq"),
        ("strategy: blue-green", "stratgy: blue-green"),
        ("canary: [5%, 25%, 50%]", "canary: [5%, 25%, 10%]"),
        ("timeout: 5m", "timeout: 5"),
        ("release-managers: 1, sre: 1", "release-managers: 3, sree: 1"),
        ("  - deploy: dev", "  - deploy: dev\n    needs: [prod]"),
        ("${{ stage.url }}", "${{ stge.url }}"),
        (r#"http_requests_total{code=~"5.."}"#, "http_requests_total{code=~5..}"),
        ("hosts: [dev-1]", "hosts: dev-1"),
        ("guards: {", "latency: http_request_duration_seconds\nguards: {"),
        ("kind: Pipeline", "kind: Pipelin"),
        ("root: /srv/cdflow/dev", "root: [/srv/cdflow/dev"),
        ("root: /srv/cdflow/dev", "rot: /srv/cdflow/dev"),
        ("vm: { start", "kubernetes: { manifests: x }\nvm: { start"),
    ];
    let mut shown = String::new();
    for (from, to) in cases {
        writeln!(shown, "# {from}  ->  {to}\n\n{}", errors_with(from, to)).unwrap();
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn every_kind_of_error_is_told_with_its_place_and_what_was_expected() {
    let cases = [
        // Whole documents.
        ("---\nkind: Environment\nname: dev", "---\nkind: Policy\nname: x\n---\nkind: Environment\nname: dev"),
        ("---\nkind: Environment\nname: dev", "---\nname: x\n---\n- a list\n---\nkind: Environment\nname: dev"),
        ("kind: Group\nname: sre", "kind: Group\nname: release-managers"),
        ("kind: Group\nname: sre", "kind: Group\nname: SRE Team"),
        ("members: [cy]", "members: [cyy, cy, cy]"),
        ("members: [cy]", "members: [cy]\nmembers: [cy]"),
        // Services.
        ("-{version}.tar.gz", ".tar.gz"),
        ("archive: \"file:", "archive: \"ftp:"),
        ("artifact: {", "artifact: { image: x, "),
        ("artifact: {", "artifact: {} #"),
        ("{port}", "{prot}"),
        ("{port}", "8080"),
        ("/healthz", "healthz"),
        ("root: /srv/cdflow/dev", "root: http://x"),
        ("unix:/run/haproxy.sock", "unix:"),
        ("ready: {", "release: shop, ready: {"),
        ("hosts: [dev-1]", "hosts: [../dev-1]"),
        ("health: web", "health: wbe"),
        ("  dev: { variables", "  development: { variables"),
        ("LOG_LEVEL: info", "LOG LEVEL: info"),
        ("LOG_LEVEL: info", "LOG_LEVEL: [info]"),
        ("LOG_LEVEL: info", "LOG_LEVEL: \"${{ inputs.x }}\""),
        ("health: web\n", ""),
        // Environments and infrastructure.
        ("type: production", "type: prod"),
        ("by: { release-managers: 1 }", "by: { release-manager: 1 }"),
        ("by: { release-managers: 1 }", "by: { release-managers: 5 }"),
        ("by: { release-managers: 1 }", "by: {}"),
        ("infrastructure: [dev-vms]", "infrastructure: []"),
        ("infrastructure: [dev-vms]", "infrastructure: [dev-vms, qa-vms]"),
        ("infrastructure: [dev-vms]", "infrastructure: [dev_vm]"),
        ("transport: local", "transport: ssh\nssh: { user: deploy }"),
        ("platform: vm", "platform: kubernetes"),
        ("ports: 21000-21009", "ports: 21009-21000"),
        ("ports: 21000-21009", "ports: 21000"),
        ("hosts: [dev-1]", "hosts: [dev-1, dev-1]"),
        ("unix:/run/haproxy.sock", "/run/haproxy.sock"),
        ("http://127.0.0.1:8081", "127.0.0.1:8081"),
        ("router: { haproxy: {", "router: { nginx: {"),
        // Health profiles.
        ("every: 5s", "every: 5 parsecs"),
        ("every: 5s", "every: 10000h"),
        ("max-error-rate: 5%", "max-error-rate: 5"),
        ("max-error-rate: 5%", "max-error-rate: 100%"),
        ("max-error-rate: 5%", "max-error-rate: 500%"),
        ("min-requests: 100", "min-requests: 0"),
        ("min-requests: 100", "min-requests: many"),
        ("requests: http_requests_total", "requests: http requests"),
        (r#"errors: http_requests_total{code=~"5.."}"#, "errors: http_requests_total"),
        ("scrape: {", "harm: 0.5\nalpha: 50%\nscrape: {"),
        // Pipelines.
        ("service: storefront\non", "service: store\non"),
        ("on: { artifact", "on: { schedule: daily, artifact"),
        ("on: { artifact", "on: { artefact"),
        ("minimum: 1, maximum: 9", "minimum: 9, maximum: 1"),
        ("type: integer, minimum", "type: int, minimum"),
        ("default: 2", "default: two"),
        ("type: boolean, default", "type: boolean, required: true, pattern: x, default"),
        ("type: choice, options: [debug, info, warn]", "type: choice"),
        ("[A-Z]+-[0-9]+", "[A-Z+-"),
        ("  - deploy: qa", "  - deploy: dev\n  - deploy: qa"),
        ("  - deploy: qa", "  - steps: [{ wait: 1s }]\n  - deploy: qa"),
        ("  - deploy: qa", "  - id: x\n  - deploy: qa"),
        ("  - deploy: qa", "  - deploy: qa\n    approve: { by: { sre: 1 } }"),
        ("  - deploy: qa", "  - deploy: qa\n    needs: [dve, prod]"),
        ("  - deploy: qa", "  - deploy: qa\n    matrix: {}"),
        ("  - approve: {", "  - watch: 2h\n    approve: {"),
        ("strategy: blue-green", "strategy: bluegreen"),
        ("strategy: blue-green", "strategy: canary"),
        ("strategy: blue-green", "strategy: { canary: [] }"),
        ("strategy: blue-green", "strategy: { canary: [0.5%, 5] }"),
        ("strategy: blue-green", "strategy: { rolling: { batch: 0% } }"),
        ("  - deploy: dev", "  - deploy: dev\n    strategy: blue-green #"),
        ("id: smoke", "id: lock"),
        ("- wait: 30s", "- id: smoke\n        wait: 30s"),
        ("- wait: 30s", "- wait: 30s\n        run: x\n        on-crash: maybe"),
        ("- wait: 30s", "- env: { A: b }"),
        ("- wait: 30s", "- wait: 30s\n        timeout: 1m\n        http: {}"),
        ("attempts: 3", "attempts: 1000"),
        ("steps.smoke.outputs", "steps.smok.outputs"),
        ("steps.smoke.outputs.slow == 'yes'", "succes()"),
        ("inputs.zones", "inputs.zone"),
        ("inputs.zones", "inputs.log-level"),
        ("${{ inputs.zones }}", "${{ inputs.zones"),
        // YAML itself.
        ("hosts: [dev-1]", "hosts: *nobody"),
        ("hosts: [dev-1]", "hosts: \"dev-1"),
        ("hosts: [dev-1]", "\thosts: [dev-1]"),
        ("hosts: [dev-1]", "  hosts: [dev-1]"),
    ];
    let mut shown = String::new();
    for (from, to) in cases {
        writeln!(shown, "# {}  ->  {}\n{}", from.escape_debug(), to.escape_debug(), in_short(&errors_with(from, to)))
            .unwrap();
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn all_errors_are_found_at_once() {
    let text = INSTALLATION
        .replace("timeout: 5m", "timeout: 5")
        .replace("health: web", "health: wbe")
        .replace("members: [cy]", "member: [cy]")
        .replace("strategy: blue-green", "strategy: bluegreen")
        .replace("root: /srv/cdflow/dev", "root: \"/srv/cdflow/dev");
    let codes: Vec<String> = errors_of(text).records().into_iter().map(|record| record.code).collect();
    assert_eq!(codes, ["CDF-1008", "CDF-1001", "CDF-1004", "CDF-1003", "CDF-1006", "CDF-1006"]);
}

#[test]
fn errors_are_also_for_programs_and_in_colour() {
    let errors = errors_with("health: web", "health: wbe");
    let json: Value = serde_json::to_value(&errors).unwrap();
    let expected = serde_json::json!([{
        "code": "CDF-1008", "file": "cdflow.yaml", "line": 5, "column": 9,
        "message": "there is no health profile `wbe`", "help": "did you mean `web`?",
    }]);
    assert_eq!(json, expected);
    assert!(!errors.to_string().contains('\u{1b}'));
    assert!(errors.render(true).contains("\u{1b}["));
}
