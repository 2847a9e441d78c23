//! What was found, beside what is wanted.

use std::fmt;

use anyhow::Result;
use cdflow_testkit::{NatsServer, SyncMode};
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde::Serialize;

use crate::{
    machine::Machine,
    memory::Memory,
    options::Durability,
    takeover::Takeovers,
    throughput::{PathFigures, Row},
    whole::connect,
    whole::install,
};

/// At 256 in flight with `always`, of the runs per second of the bare path.
const RATIO: f64 = 0.6;
/// At one in flight with `always`.
const STEP_P50_MS: f64 = 1.5;
/// Each of them.
const TAKEOVER_MS: u64 = 3_000;

/// Everything that was measured, and on what.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) command: String,
    /// `release` or `debug`.
    pub(crate) build: &'static str,
    pub(crate) nats_server: String,
    pub(crate) throughput: Vec<Row>,
    pub(crate) takeover: Option<Takeovers>,
    pub(crate) memory: Option<Memory>,
}

/// Something that cdflow wants to hold, and whether it did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Limit {
    pub(crate) what: &'static str,
    pub(crate) wanted: String,
    pub(crate) found: String,
    pub(crate) held: bool,
}

impl Report {
    /// A report without figures.
    pub(crate) async fn begin() -> Result<Self> {
        let server = NatsServer::start(SyncMode::Default).await?;
        install(&server.url()).await?;
        let nats_server = connect(&server.url(), "loadtest").await?.client().server_info().version;
        Ok(Self {
            machine: Machine::read()?,
            command: std::env::args().collect::<Vec<_>>().join(" "),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            nats_server,
            throughput: Vec::new(),
            takeover: None,
            memory: None,
        })
    }

    /// The limits that this report can say something about.
    pub(crate) fn limits(&self) -> Vec<Limit> {
        let row = |in_flight: u16| {
            self.throughput.iter().find(|row| row.durability == Durability::Always && row.in_flight == in_flight)
        };
        let ratio = row(256).map(|row| Limit {
            what: "whole path by bare path, 256 in flight, always",
            wanted: format!(">= {:.0} %", RATIO * 1e2),
            found: format!("{:.1} %", row.ratio * 1e2),
            held: row.ratio >= RATIO,
        });
        let step = row(1).map(|row| Limit {
            what: "step p50, 1 in flight, always",
            wanted: format!("<= {STEP_P50_MS} ms"),
            found: format!("{:.2} ms", row.whole.step_p50_ms),
            held: row.whole.step_p50_ms <= STEP_P50_MS,
        });
        let takeover =
            self.takeover.as_ref().and_then(|found| found.decides_again_ms.iter().max()).map(|&worst| Limit {
                what: "from an owner's death to the next decision, worst",
                wanted: format!("<= {TAKEOVER_MS} ms"),
                found: format!("{worst} ms"),
                held: worst <= TAKEOVER_MS,
            });
        [ratio, step, takeover].into_iter().flatten().collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        writeln!(f, "nats-server {}, {} build, `{}`", self.nats_server, self.build, self.command)?;
        if !self.throughput.is_empty() {
            writeln!(f, "\nRuns of {} empty steps, whole path and bare write path\n", self.throughput[0].steps)?;
            writeln!(f, "{}", throughput(&self.throughput))?;
        }
        if let Some(found) = &self.takeover {
            writeln!(f, "\nTakeover after SIGKILL, {} runs, all ended\n", found.runs)?;
            writeln!(f, "{}", takeover(found))?;
        }
        if let Some(found) = &self.memory {
            writeln!(f, "\nMemory of an owner (plan of {} bytes)\n", found.plan_bytes)?;
            writeln!(f, "{}", memory(found))?;
        }
        let limits = self.limits();
        if !limits.is_empty() {
            writeln!(f, "\nLimits\n")?;
            write!(f, "{}", table_of(&limits))?;
        }
        Ok(())
    }
}

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(head);
    table
}

/// Everything but the first column is numbers.
fn align(mut table: Table) -> Table {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn throughput(rows: &[Row]) -> Table {
    let mut table = table(&[
        "durability",
        "in flight",
        "path",
        "runs/s",
        "of bare",
        "step p50 ms",
        "p99 ms",
        "run p50 ms",
        "server CPU ms/run",
        "client CPU ms/run",
        "decisions/commit",
        "append ms",
    ]);
    for row in rows {
        let begin = |path: &str| vec![row.durability.word().to_owned(), row.in_flight.to_string(), path.to_owned()];
        let figures = |path: &PathFigures, ratio: String| {
            vec![
                format!("{:.0}", path.runs_per_second),
                ratio,
                format!("{:.2}", path.step_p50_ms),
                format!("{:.2}", path.step_p99_ms),
                format!("{:.1}", path.run_p50_ms),
                format!("{:.2}", path.server_cpu_ms),
                format!("{:.2}", path.client_cpu_ms),
            ]
        };
        let groups = [format!("{:.1}", row.decisions_per_commit), format!("{:.2}", row.append_ms)];
        let whole = figures(&row.whole, format!("{:.0} %", row.ratio * 1e2));
        table.add_row(begin("whole").into_iter().chain(whole).chain(groups));
        table.add_row(begin("bare").into_iter().chain(figures(&row.bare, String::new())));
    }
    align(table)
}

fn takeover(found: &Takeovers) -> Table {
    let mut table = table(&["kill", "decides again ms", "runs in flight ended ms"]);
    for (number, (again, ended)) in found.decides_again_ms.iter().zip(&found.all_ended_ms).enumerate() {
        table.add_row([(number + 1).to_string(), again.to_string(), ended.to_string()]);
    }
    align(table)
}

fn memory(found: &Memory) -> Table {
    let mut table = table(&["live runs", "resident MiB"]);
    for (runs, bytes) in &found.points {
        table.add_row([runs.to_string(), format!("{:.1}", *bytes as f64 / f64::from(1 << 20))]);
    }
    table.add_row(["bytes per live run".to_owned(), format!("{:.0}", found.bytes_per_run)]);
    align(table)
}

fn table_of(limits: &[Limit]) -> Table {
    let mut table = table(&["limit", "wanted", "found", "held"]);
    for limit in limits {
        let held = if limit.held { "yes" } else { "NO" };
        table.add_row([limit.what, limit.wanted.as_str(), limit.found.as_str(), held]);
    }
    align(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let figures = |runs_per_second| PathFigures {
            runs: 100,
            runs_per_second,
            run_p50_ms: 100.0,
            step_p50_ms: 8.0,
            step_p99_ms: 12.0,
            server_cpu_ms: 0.3,
            client_cpu_ms: 0.5,
        };
        Report {
            machine: Machine {
                cores: 2,
                cpu: "Example".into(),
                memory_mib: 4_096,
                kernel: "6.1".into(),
                fsync_p50_us: 130,
                fsync_p99_us: 400,
                load_before: "0.10".into(),
            },
            command: "cdflow-loadtest".into(),
            build: "release",
            nats_server: "2.15.0".into(),
            throughput: vec![Row {
                durability: Durability::Always,
                in_flight: 256,
                steps: 12,
                whole: figures(550.0),
                bare: figures(1_000.0),
                ratio: 0.55,
                decisions_per_commit: 20.0,
                append_ms: 0.5,
            }],
            takeover: Some(Takeovers {
                decides_again_ms: vec![1_900, 2_100],
                all_ended_ms: vec![1_950, 2_200],
                runs: 90,
            }),
            memory: Some(Memory { points: vec![(10, 1 << 20)], bytes_per_run: 5_000.0, plan_bytes: 900 }),
        }
    }

    #[test]
    fn a_limit_that_is_missed_is_marked() {
        let limits = report().limits();
        assert_eq!(limits.iter().map(|limit| limit.held).collect::<Vec<_>>(), [false, true]);
        let text = report().to_string();
        assert!(text.contains("55 %") && text.contains("NO") && text.contains("2100 ms"), "{text}");
    }
}
