//! The quick path against a real server: every run ends, whatever the speed.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use serde_json::Value;

fn quick(parts: &str) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_cdflow-loadtest"))
        .args(["--quick", "--json", "--part", parts])
        .output()
        .expect("the load test starts");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    serde_json::from_slice(&output.stdout).expect("a report in JSON")
}

#[test]
fn all_runs_of_both_paths_end_in_both_modes() {
    let report = quick("throughput");
    let rows = report["throughput"].as_array().unwrap();
    let found: Vec<_> = rows
        .iter()
        .map(|row| {
            let runs = |path: &str| row[path]["runs"].as_u64().unwrap();
            (row["durability"].as_str().unwrap(), row["in_flight"].as_u64().unwrap(), runs("whole"), runs("bare"))
        })
        .collect();
    assert_eq!(found, [("always", 1, 4, 4), ("always", 16, 64, 64), ("default", 1, 4, 4), ("default", 16, 64, 64)]);
}

#[test]
fn runs_outlive_their_owner() {
    let found = &quick("takeover")["takeover"];
    assert_eq!(found["decides_again_ms"].as_array().unwrap().len(), 1);
    assert!(found["runs"].as_u64().unwrap() > 0);
}

#[test]
fn waiting_runs_are_live_in_the_memory_of_their_owner() {
    let found = &quick("memory")["memory"];
    let levels: Vec<_> = found["points"].as_array().unwrap().iter().map(|point| point[0].as_u64().unwrap()).collect();
    assert_eq!(levels, [200, 400]);
}
