//! Which variable wins.
#![allow(clippy::unwrap_used)]

use cdflow_pipeline::{Configuration, Request, SourceFile, compile};
use proptest::prelude::*;
use serde_json::json;

/// Low to high.
const LAYERS: [&str; 5] =
    ["service", "environment", "service in environment", "infrastructure", "service on infrastructure"];

/// An installation in which the given layers say what `V` is.
fn installation(layers: [bool; 5]) -> String {
    let says = |layer: usize| match layers[layer] {
        true => format!("{{ V: {} }}", LAYERS[layer]),
        false => "{ OTHER: x }".to_owned(),
    };
    format!(
        r#"
kind: Service
name: shop
artifact: {{ archive: "file:/srv/shop-{{version}}.tar.gz" }}
variables: {}
environments: {{ dev: {{ variables: {} }} }}
infrastructure: {{ vms: {{ variables: {} }} }}
vm: {{ start: "shop {{port}}" }}
---
kind: Environment
name: dev
infrastructure: [vms]
variables: {}
---
kind: Infrastructure
name: vms
platform: vm
hosts: [a]
root: /srv/cdflow
ports: 20000-20009
variables: {}
---
kind: Pipeline
name: shop
service: shop
inputs: {{ v: {{ variable: V }} }}
stages: [{{ deploy: dev }}]
"#,
        says(0),
        says(2),
        says(4),
        says(1),
        says(3)
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_highest_layer_that_says_a_variable_wins(layers in any::<[bool; 5]>(), said in any::<bool>()) {
        let configuration = Configuration::parse([SourceFile::new("a.yaml", installation(layers))]).unwrap();
        let mut request = Request { pipeline: "shop".into(), version: Some("v1".into()), ..Request::default() };
        if said {
            request.inputs.insert("v".into(), json!("${{ secrets.stolen }}"));
        }
        let plan = compile(&configuration, &request).unwrap();
        let resolved = plan.stages[0].deploy.as_ref().unwrap().target.variables.get("V").map(String::as_str);
        let highest = LAYERS.iter().zip(layers).filter(|(_, says)| *says).map(|(layer, _)| *layer).next_back();
        prop_assert_eq!(resolved, if said { Some("${{ inputs[\"v\"] }}") } else { highest });
    }
}
