//! One trace for each run, across all services and the bus, as an OTLP collector gets it.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use cdflow_console::api::{Outcome, RunStatus, RunView};
use cdflow_tests::{Shop, Suite, SuiteOptions};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use tonic::{Request, Response, Status, transport::Server};

const MINUTE: Duration = Duration::from_secs(60);
/// The clocks of processes on one machine agree; a span may still begin before the event that its parent begins with:
/// the trigger has a CI event before there is a run.
const TOLERANCE: Duration = Duration::from_secs(1);
/// What a CI system says of its own span.
const CI_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CI_SPAN: &str = "00f067aa0ba902b7";

/// A collector that keeps what it gets.
#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let spans = request.into_inner().resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        self.0.lock().unwrap().extend(spans.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Receiver {
    /// Listens until the test ends; its endpoint.
    fn listen(&self) -> String {
        let address = ([127, 0, 0, 1], cdflow_testkit::free_port()).into();
        let server = Server::builder().add_service(TraceServiceServer::new(self.clone())).serve(address);
        tokio::spawn(server);
        format!("http://{address}")
    }

    fn trace(&self, id: &str) -> Trace {
        let all = self.0.lock().unwrap();
        let spans = all.iter().filter(|span| hex(&span.trace_id) == id);
        let mut by_id = BTreeMap::new();
        for span in spans {
            let before = by_id.insert(hex(&span.span_id), span.clone());
            assert!(before.is_none(), "two spans with one id: {before:?} and {span:?}");
        }
        Trace(by_id)
    }
}

/// The spans of one trace by their ids.
struct Trace(BTreeMap<String, Span>);

impl Trace {
    /// Asserts that this is one tree below `outside`, or below a root of its own, and that time passes in it.
    fn assert_one_tree(&self, outside: Option<&str>) {
        let mut tops = Vec::new();
        for span in self.0.values() {
            let parent = hex(&span.parent_span_id);
            assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{}", self.line(span));
            match self.0.get(&parent) {
                Some(parent) => {
                    let tolerance = u64::try_from(TOLERANCE.as_nanos()).unwrap();
                    assert!(
                        span.start_time_unix_nano + tolerance >= parent.start_time_unix_nano,
                        "{} begins before {}",
                        self.line(span),
                        self.line(parent)
                    );
                }
                None => tops.push((parent, span)),
            }
        }
        match outside {
            None => {
                assert_eq!(tops.len(), 1, "one root, not:\n{}", self.lines(tops.iter().map(|(_, span)| *span)));
                assert_eq!(tops[0].0, "", "the root has no parent");
            }
            Some(outside) => {
                for (parent, span) in &tops {
                    assert_eq!(parent, outside, "{} hangs elsewhere", self.line(span));
                }
                assert!(!tops.is_empty());
            }
        }
        // Parents exist, so what does not reach the top is in a circle.
        for span in self.0.values() {
            let mut at = span;
            for _ in 0..=self.0.len() {
                match self.0.get(&hex(&at.parent_span_id)) {
                    Some(parent) => at = parent,
                    None => break,
                }
            }
            assert!(!self.0.contains_key(&hex(&at.parent_span_id)), "{} is its own ancestor", self.line(span));
        }
    }

    /// The spans with this name.
    fn named(&self, name: &str) -> Vec<&Span> {
        self.0.values().filter(|span| span.name == name).collect()
    }

    fn one(&self, name: &str) -> &Span {
        let found = self.named(name);
        assert_eq!(found.len(), 1, "one span {name:?} in:\n{}", self.lines(self.0.values()));
        found[0]
    }

    fn of_service<'t>(&'t self, service: &'t str) -> impl Iterator<Item = &'t Span> {
        self.0.values().filter(move |span| attribute(span, "cdflow.service").as_deref() == Some(service))
    }

    /// The stages and steps that the orchestrator shows.
    fn steps(&self) -> BTreeSet<(String, String)> {
        let steps = self
            .of_service("orchestrator")
            .filter_map(|span| Some((attribute(span, "cdflow.stage")?, attribute(span, "cicd.pipeline.task.name")?)));
        steps.collect()
    }

    fn parent(&self, span: &Span) -> &Span {
        self.0.get(&hex(&span.parent_span_id)).unwrap_or_else(|| panic!("{} has no parent", self.line(span)))
    }

    fn line(&self, span: &Span) -> String {
        let service = attribute(span, "cdflow.service").unwrap_or_default();
        format!("{service}: {} ({} below {})", span.name, hex(&span.span_id), hex(&span.parent_span_id))
    }

    fn lines<'s>(&self, spans: impl Iterator<Item = &'s Span>) -> String {
        spans.map(|span| self.line(span)).collect::<Vec<_>>().join("\n")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

fn waits_for_approval(run: &RunView) -> bool {
    run.status == RunStatus::Waiting && run.approvals.iter().any(|approval| approval.outcome.is_none())
}

/// The example with a short bake and watch, so that a run ends while a test waits.
fn hurry(shop: &Shop) {
    let changes = [
        ("pipeline.yaml", "watch: 2m", "watch: 5s"),
        ("service.yaml", "bake: 20s", "bake: 2s"),
        ("service.yaml", "min-ticks: 10", "min-ticks: 2"),
        ("service.yaml", "min-requests: 100", "min-requests: 20"),
    ];
    for (file, from, to) in changes {
        let path = shop.directory().join("cdflow").join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} says {from}");
        fs::write(&path, text.replace(from, to)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_one_trace_across_all_services_also_below_the_span_of_a_ci_system() {
    let receiver = Receiver::default();
    let shop = Shop::open().unwrap();
    hurry(&shop);
    let options = SuiteOptions { otlp_endpoint: Some(receiver.listen()) };
    let mut suite = Suite::start(&shop, &options).await.unwrap();
    suite.done(&["apply", "cdflow"]).unwrap();
    suite.log_in("ana").unwrap();
    let _customers = shop.customers("prod", 200, "production").unwrap();
    let _testers = shop.customers("staging", 40, "testers").unwrap();

    assert_eq!(suite.publish(&shop, "v1.0.0").await.unwrap(), 202);
    suite.until("1", 2 * MINUTE, "waiting for approval", waits_for_approval).await.unwrap();
    suite.done(&["approve", "1", "--no-watch"]).unwrap();
    let first = suite.until("1", 4 * MINUTE, "over", |run| run.outcome.is_some()).await.unwrap();
    assert_eq!(first.outcome, Some(Outcome::Succeeded), "{}", first.reason);

    // A build that is traced itself; this run is cancelled on its way.
    let traceparent = format!("00-{CI_TRACE}-{CI_SPAN}-01");
    assert_eq!(suite.publish_traced(&shop, "v1.1.0", &traceparent).await.unwrap(), 202);
    let past_dev = |run: &RunView| run.stages.iter().any(|stage| stage.id == "dev" && stage.outcome.is_some());
    suite.until("2", MINUTE, "past dev", past_dev).await.unwrap();
    suite.done(&["run", "cancel", "2"]).unwrap();
    let second = suite.until("2", MINUTE, "over", |run| run.outcome.is_some()).await.unwrap();
    assert_eq!(second.outcome, Some(Outcome::Cancelled), "{}", second.reason);

    // What a person starts hangs below the request.
    suite.done(&["deploy", "storefront", "v1.1.0", "--to", "dev", "--no-watch"]).unwrap();
    let third = suite.until("3", MINUTE, "over", |run| run.outcome.is_some()).await.unwrap();

    // The last spans are sent while the suite stops.
    suite.stop().unwrap();

    let trace = receiver.trace(&first.id.replace('-', ""));
    trace.assert_one_tree(None);
    let run = trace.one("RUN storefront");
    assert!(run.parent_span_id.is_empty());
    assert_eq!(run.kind(), SpanKind::Server);
    assert_eq!(attribute(run, "cicd.pipeline.name").as_deref(), Some("storefront"));
    assert_eq!(attribute(run, "cicd.pipeline.run.id").as_deref(), Some(first.id.as_str()));
    assert_eq!(attribute(run, "cicd.pipeline.result").as_deref(), Some("success"));
    assert_eq!(trace.parent(trace.one("trigger storefront")).name, run.name);
    assert_covers(&trace, &first);

    // Every service below the step that it works for.
    let stages = ["dev", "qa", "staging", "prod"];
    for stage in stages {
        let deploys = trace.of_service("executor").filter(|span| {
            attribute(span, "cdflow.stage").as_deref() == Some(stage)
                && attribute(span, "cicd.pipeline.task.type").as_deref() == Some("deploy")
        });
        assert!(deploys.count() >= 3, "{stage} is observed, staged and promoted");
    }
    assert_eq!(attribute(trace.one("execute script qa"), "cicd.pipeline.task.run.result").as_deref(), Some("success"));
    assert_eq!(trace.named("verify prod").len(), 3, "one for each weight");
    trace.one("watch prod");
    let collections = trace.named("collect prod");
    assert!(collections.len() >= 4);
    for span in trace.of_service("executor").chain(trace.of_service("verifier")).chain(trace.of_service("approval")) {
        let step = trace.parent(span);
        assert_eq!(attribute(step, "cdflow.service").as_deref(), Some("orchestrator"), "{}", trace.line(span));
        for key in ["cicd.pipeline.run.id", "cdflow.stage", "cicd.pipeline.task.name"] {
            assert_eq!(attribute(span, key), attribute(step, key), "{key} of {}", trace.line(span));
            assert!(attribute(span, key).is_some(), "{key} of {}", trace.line(span));
        }
        for key in ["cicd.pipeline.task.run.id", "cicd.pipeline.task.run.result"] {
            assert!(attribute(span, key).is_some(), "{key} of {}", trace.line(span));
        }
    }
    assert_eq!(trace.of_service("approval").count(), 1);
    for service in ["trigger", "orchestrator", "executor", "verifier", "approval"] {
        assert!(trace.of_service(service).next().is_some(), "{service}");
    }

    let trace = receiver.trace(CI_TRACE);
    trace.assert_one_tree(Some(CI_SPAN));
    for name in ["RUN storefront", "trigger storefront"] {
        assert_eq!(hex(&trace.one(name).parent_span_id), CI_SPAN, "{name}");
    }
    assert_eq!(attribute(trace.one("RUN storefront"), "cicd.pipeline.result").as_deref(), Some("cancellation"));
    assert_covers(&trace, &second);

    let all = receiver.0.lock().unwrap().clone();
    let deploy = all.iter().find(|span| attribute(span, "cicd.pipeline.run.id").as_deref() == Some(third.id.as_str()));
    let trace = receiver.trace(&hex(&deploy.expect("spans of a deployment").trace_id));
    trace.assert_one_tree(None);
    let request = trace.one("POST /api/v1/deployments");
    assert!(request.parent_span_id.is_empty());
    assert_eq!(attribute(request, "cdflow.service").as_deref(), Some("console"));
    assert_covers(&trace, &third);
}

/// Every stage, and every step that has run, has a span, and those that failed say so.
fn assert_covers(trace: &Trace, run: &RunView) {
    let shown = trace.steps();
    for stage in &run.stages {
        let span = trace.one(&format!("stage {}", stage.id));
        assert!(trace.parent(span).name.starts_with("RUN "), "a stage is below its run");
        for step in stage.steps.iter().filter(|step| step.outcome.is_some()) {
            let name = format!("{} {}", stage.id, step.id);
            assert!(
                shown.contains(&(stage.id.clone(), step.id.clone())),
                "{name} in:\n{}",
                trace.lines(trace.0.values())
            );
            for span in trace.named(&name) {
                assert_eq!(trace.parent(span).name, format!("stage {}", stage.id));
                let failed = span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error);
                let class = attribute(span, "error.type");
                assert_eq!(failed, class.is_some(), "{}", trace.line(span));
            }
        }
    }
}
