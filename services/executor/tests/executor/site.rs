//! Hosts, a router and releases for one test.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
};

use cdflow_executor::{
    ArtifactCache, Error, Redactor, StepLog, perform,
    platform::{Attempt, Surroundings},
    process::{self, Process},
};
use cdflow_pipeline::plan::{Platform, Router, Target, Transport};
use cdflow_protocol::v1::{Fence, Observation, Release, Verb, VerbTask};
use cdflow_testkit::Haproxy;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

pub(crate) const BACKEND: &str = "storefront";

/// A server that answers its version, slowly enough for a switch to fall into many requests. What is wrong with it is
/// said by `FAULT`.
const SERVER: &str = r#"#!/usr/bin/python3
import http.server, os, signal, sys, threading, time

fault = os.environ.get("FAULT", "")
if fault == "exit":
    print("cannot read shop.db: no such file", file=sys.stderr)
    sys.exit(3)

if fault == "slow":
    time.sleep(3)

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        ready = self.path != "/healthz" or fault != "unready"
        if self.path == "/":
            time.sleep(0.01)
        body = os.environ["CDFLOW_VERSION"].encode() if ready else b"warming up"
        self.send_response(200 if ready else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass

class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

server = Server(("127.0.0.1", int(os.environ["PORT"])), Handler)
if fault != "stubborn":
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
else:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("listening", flush=True)
server.serve_forever()
"#;

/// Ports for the sites of one test process.
static NEXT_PORTS: AtomicU16 = AtomicU16::new(0);

pub(crate) struct Site {
    pub(crate) directory: TempDir,
    pub(crate) haproxy: Option<Haproxy>,
    pub(crate) target: Target,
    pub(crate) log: Arc<Mutex<Vec<String>>>,
    fence: AtomicU64,
}

impl Site {
    pub(crate) async fn new(hosts: usize, per_host: u32) -> Self {
        Self::with(hosts, per_host, Some(Haproxy::start(&[BACKEND]).await.unwrap()))
    }

    pub(crate) fn with(hosts: usize, per_host: u32, haproxy: Option<Haproxy>) -> Self {
        let directory = tempfile::Builder::new().prefix("cdflow-site-").tempdir().unwrap();
        let base =
            20_000 + (std::process::id() as u16 % 100) * 100 + NEXT_PORTS.fetch_add(40, Ordering::Relaxed) % 2_000;
        let router = haproxy.as_ref().map(|haproxy| Router::Haproxy {
            admin: haproxy.admin(),
            backend: BACKEND.into(),
            url: haproxy.url(BACKEND),
        });
        let target = Target {
            service: "storefront".into(),
            infrastructure: "prod".into(),
            environment: "prod".into(),
            pool: "default".into(),
            platform: Platform::Vm {
                transport: Transport::Local,
                hosts: (0..hosts).map(|number| format!("host-{}", (b'a' + number as u8) as char)).collect(),
                instances_per_host: per_host,
                root: directory.path().join("hosts").display().to_string(),
                ports: (base, base + 60),
                start: "bin/server --port {port}".into(),
                ready_path: "/healthz".into(),
                ready_within_ms: 15_000,
                drain_ms: 5_000,
                router,
            },
            variables: BTreeMap::new(),
        };
        Self { directory, haproxy, target, log: Arc::default(), fence: AtomicU64::new(0) }
    }

    pub(crate) fn url(&self) -> String {
        self.haproxy.as_ref().unwrap().url(BACKEND)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("hosts")
    }

    pub(crate) fn hosts(&self) -> Vec<String> {
        let Platform::Vm { hosts, .. } = &self.target.platform;
        hosts.clone()
    }

    /// An artifact of this version; `fault` is what is wrong with it.
    pub(crate) fn release(&self, version: &str, fault: &str) -> Release {
        let path = self.directory.path().join(format!("storefront-{version}.tar.gz"));
        if !path.exists() {
            write_archive(&path, version);
        }
        let environment = match fault {
            "" => BTreeMap::new(),
            fault => BTreeMap::from([("FAULT".to_owned(), fault.to_owned())]),
        };
        Release {
            version: version.into(),
            artifact: format!("file:{}", path.display()),
            digest: format!("sha256:{}", hex::encode(Sha256::digest(std::fs::read(&path).unwrap()))),
            environment,
        }
    }

    pub(crate) fn surroundings(&self) -> Surroundings {
        let http = reqwest::Client::new();
        let artifacts = ArtifactCache::new(self.directory.path().join("cache"), http.clone());
        Surroundings { http, artifacts, keep_releases: 3 }
    }

    pub(crate) fn task(
        &self,
        verb: Verb,
        percent: u32,
        release: Option<&Release>,
        previous: Option<&Release>,
    ) -> VerbTask {
        VerbTask {
            verb: verb.into(),
            target: serde_json::to_vec(&self.target).unwrap(),
            release: release.cloned(),
            previous: previous.cloned(),
            percent,
            rollback: false,
        }
    }

    /// A fence as a task that is sent now would have.
    pub(crate) fn next_fence(&self) -> Fence {
        Fence { incarnation: 1, sequence: 1 + self.fence.fetch_add(1, Ordering::SeqCst), delivery: 1 }
    }

    pub(crate) fn attempt(&self, fence: Fence) -> Attempt {
        let (log, mut lines) = StepLog::new(Redactor::default(), 1);
        let kept = self.log.clone();
        tokio::spawn(async move {
            while let Some(line) = lines.recv().await {
                kept.lock().unwrap().push(line.text);
            }
        });
        Attempt { fence, log, may_change: Box::new(|| true) }
    }

    pub(crate) async fn perform(&self, task: &VerbTask) -> Result<Observation, Error> {
        perform(task, &self.attempt(self.next_fence()), &self.surroundings()).await
    }

    pub(crate) async fn verb(
        &self,
        verb: Verb,
        percent: u32,
        release: &Release,
        previous: Option<&Release>,
    ) -> Observation {
        self.perform(&self.task(verb, percent, Some(release), previous)).await.unwrap()
    }

    pub(crate) async fn observe(&self) -> Observation {
        self.perform(&self.task(Verb::Observe, 0, None, None)).await.unwrap()
    }

    /// First release: everything at once.
    pub(crate) async fn install(&self, release: &Release) -> Observation {
        self.verb(Verb::Stage, 100, release, None).await;
        self.verb(Verb::Shift, 100, release, None).await;
        self.verb(Verb::Promote, 0, release, None).await;
        self.verb(Verb::Retire, 0, release, None).await
    }

    /// As the orchestrator undoes a change.
    pub(crate) async fn roll_back(&self, back_to: Option<&Release>, from: &Release) -> Observation {
        let mut last = Observation::default();
        for (verb, percent) in [(Verb::Stage, 100), (Verb::Shift, 100), (Verb::Promote, 0), (Verb::Retire, 0)] {
            let task = VerbTask { rollback: true, ..self.task(verb, percent, back_to, Some(from)) };
            last = self.perform(&task).await.unwrap();
        }
        last
    }

    /// Processes of instances, on all hosts.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let of_host = |host: &String| {
            let shared = self.root().join(host).join("storefront/shared");
            process::with_variable("CDFLOW_SHARED", &shared.display().to_string())
        };
        let mut all: Vec<Process> = self.hosts().iter().flat_map(of_host).collect();
        all.sort_by_key(|process| process.pid);
        all
    }

    pub(crate) fn has_said(&self, part: &str) -> bool {
        self.log.lock().unwrap().iter().any(|line| line.contains(part))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        process::kill_all(&self.processes());
    }
}

fn write_archive(path: &Path, version: &str) {
    let encoder = flate2::write::GzEncoder::new(std::fs::File::create(path).unwrap(), flate2::Compression::fast());
    let mut builder = tar::Builder::new(encoder);
    for (name, content, mode) in [("bin/server", SERVER, 0o755), ("VERSION", version, 0o644)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap();
}

/// Versions of what is there, with how many copies and percent of traffic.
pub(crate) fn summary(observation: &Observation) -> BTreeMap<&str, (usize, f64)> {
    let mut found: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for instance in &observation.instances {
        assert!(instance.ready, "{instance:?}");
        let entry = found.entry(&instance.version).or_default();
        entry.0 += 1;
        entry.1 = ((entry.1 + instance.weight) * 1_000.0).round() / 1_000.0;
    }
    found
}

pub(crate) fn live(observation: &Observation) -> Option<&str> {
    observation.live.as_ref().map(|release| release.version.as_str())
}
