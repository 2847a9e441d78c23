//! Releases run again and again while random processes are killed or paused. Every run ends as it would have, and every
//! effect at the targets is counted: none lost, none doubled.
//!
//! Faults that are survived here: SIGKILL and SIGSTOP (also for longer than a lease) of any service in a process of its
//! own, of the executor in the middle of a verb or a script, and of nats-server.
//!
//! `CDFLOW_CRASH_FAULTS` (default 200) sets how many faults, `CDFLOW_CRASH_SEED` repeats a run's choices.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test; the seed is for whoever repeats it")]

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use cdflow_console::api::{Outcome, RunView};
use cdflow_protocol::v1::{RunEvent, run_event};
use cdflow_testkit::{Signal, free_port};
use cdflow_tests::{Background, Fleet, binary};
use prost::Message as _;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::sync::RwLock;

const SERVICES: u32 = 4;
const HOSTS: usize = 2;

/// One service on two hosts behind HAProxy, one pipeline that uses every kind of step.
fn documents(directory: &Path, service: u32, first_port: u16) -> String {
    let root = directory.display();
    format!(
        r#"
kind: Service
name: shop{service}
artifact: {{ archive: "file:{root}/dist/shop{service}-{{version}}.tar.gz" }}
health: shop
vm: {{ start: "sh start.sh {{port}} {{version}}", ready: {{ http: /healthz, within: 10s }}, drain: 1s }}
---
kind: Environment
name: env{service}
type: production
infrastructure: [vms{service}]
---
kind: Infrastructure
name: vms{service}
platform: vm
transport: local
hosts: [s{service}a, s{service}b]
root: {root}/hosts
ports: {first_port}-{last_port}
router: {{ haproxy: {{ admin: "unix:{root}/haproxy.sock", backend: shop{service}, url: "http://127.0.0.1:{url}" }} }}
---
kind: Pipeline
name: shop{service}
service: shop{service}
stages:
  - id: before
    steps:
      - id: migrate
        run: echo "$CDFLOW_STEP_KEY" >> {root}/effects/migrate-shop{service}-${{{{ artifact.version }}}}
        on-crash: repeat
  - approve: {{ by: {{ deciders: 1 }} }}
  - deploy: env{service}
    strategy: {{ canary: [50%] }}
    verify: {{ within: 3m }}
    steps:
      - id: smoke
        run: curl --fail --silent --max-time 5 "${{{{ stage.url }}}}/version"
        on-crash: repeat
        retry: {{ attempts: 5, interval: 1s }}
---
"#,
        last_port = first_port + 19,
        url = first_port + 20,
    )
}

const SHARED: &str = r#"
kind: HealthProfile
name: shop
scrape: { path: /metrics, every: 500ms }
requests: http_requests_total
errors: http_requests_total{code=~"5.."}
bake: 2s
min-ticks: 2
guards: { max-error-rate: 50%, min-requests: 5 }
---
kind: Person
name: ana
email: ana@example.com
---
kind: Group
name: deciders
members: [ana]
"#;

/// The archive of a version. Each start of a copy is written down; a bad version does not stay.
fn archive(directory: &Path, service: u32, version: &str, is_good: bool) {
    let storefront = fs::read(binary("storefront").unwrap()).unwrap();
    let effects = directory.join("effects");
    let start = format!(
        "echo started >> {}/start-shop{service}-$2\n{}exec bin/storefront --port $1 --release release.json\n",
        effects.display(),
        if is_good { "" } else { "exit 7\n" },
    );
    let release = format!(r#"{{ "version": "{version}" }}"#);
    let file = fs::File::create(directory.join(format!("dist/shop{service}-{version}.tar.gz"))).unwrap();
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::fast()));
    for (name, mode, bytes) in [
        ("start.sh", 0o644, start.as_bytes()),
        ("release.json", 0o644, release.as_bytes()),
        ("bin/storefront", 0o755, &storefront),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        header.set_cksum();
        archive.append_data(&mut header, name, bytes).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap();
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

struct Ended {
    run: RunView,
    version: String,
    is_good: bool,
}

/// Releases one service again and again; every second version is bad.
async fn release_again_and_again(
    fleet: Arc<RwLock<Fleet>>,
    directory: std::path::PathBuf,
    service: u32,
    stop: Arc<AtomicBool>,
) -> Vec<Ended> {
    let mut ended = Vec::new();
    for number in 1.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (version, is_good) = (format!("v{number}"), number % 2 != 0);
        archive(&directory, service, &version, is_good);
        let id = uuid::Uuid::now_v7().to_string();
        fleet.read().await.run(&format!("shop{service}"), &version, &id).await.unwrap();
        let begun = Instant::now();
        let run = loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let fleet = fleet.read().await;
            let seen = fleet.look(&id).await;
            match seen {
                Some(run) if run.outcome.is_some() => break run,
                Some(run) if run.approvals.iter().any(|approval| approval.outcome.is_none()) => {
                    fleet.approve(&id).await
                }
                seen => assert!(
                    begun.elapsed() < Duration::from_secs(300),
                    "run {id} of shop{service} {version} does not end: {}\n{}",
                    serde_json::to_string_pretty(&seen).unwrap(),
                    fleet.logs(30),
                ),
            }
        };
        ended.push(Ended { run, version, is_good });
    }
    ended
}

async fn inject(fleet: &Arc<RwLock<Fleet>>, faults: u32, random: &mut StdRng) -> BTreeMap<String, u32> {
    let mut done = BTreeMap::new();
    for _ in 0..faults {
        tokio::time::sleep(Duration::from_millis(random.random_range(200..900))).await;
        let mut fleet = fleet.write().await;
        let count = fleet.members.len();
        // Killing the server stops everybody at once: now and then.
        if random.random_ratio(1, 25) {
            if random.random_bool(0.5) {
                fleet.nats.kill().unwrap();
                fleet.nats.restart().await.unwrap();
                *done.entry("nats-server killed".to_owned()).or_default() += 1;
            } else {
                let pause = Duration::from_millis(random.random_range(100..2_500));
                fleet.nats.pause(pause).await.unwrap();
                *done.entry("nats-server paused".to_owned()).or_default() += 1;
            }
            continue;
        }
        let member = &mut fleet.members[random.random_range(0..count)];
        let name = member.name.clone();
        let process = member.process();
        assert!(process.is_running(), "{name} ended by itself:\n{}", process.output());
        let kind = name.trim_end_matches(['-', '1', '2']);
        if random.random_bool(0.6) {
            member.kill_and_restart().unwrap();
            *done.entry(format!("{kind} killed")).or_default() += 1;
        } else {
            let pid = member.process().pid();
            // Some pauses last longer than every lease: who wakes up then must not do harm.
            let longest = if random.random_ratio(1, 8) { 9_000 } else { 1_500 };
            let pause = Duration::from_millis(random.random_range(50..longest));
            cdflow_testkit::signal_process(pid, Signal::STOP).unwrap();
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                // It may have been killed meanwhile.
                let _ = cdflow_testkit::signal_process(pid, Signal::CONT);
            });
            *done.entry(format!("{kind} paused")).or_default() += 1;
        }
    }
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn releases_end_as_they_would_have_whatever_is_killed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("CDFLOW_CRASH_SEED").unwrap_or_else(|| rand::rng().random());
    let faults = u32::try_from(number("CDFLOW_CRASH_FAULTS").unwrap_or(200)).unwrap();
    println!("seed {seed}, {faults} faults");
    let mut random = StdRng::seed_from_u64(seed);

    let directory = tempfile::Builder::new().prefix("cdflow-crash-").tempdir().unwrap();
    for name in ["dist", "effects", "hosts"] {
        fs::create_dir_all(directory.path().join(name)).unwrap();
    }
    let _leftovers = cdflow_tests::KillWhatRunsIn(directory.path().to_owned());
    let base = 30_000 + u16::try_from(std::process::id() % 50).unwrap() * 40;
    let ports: Vec<u16> = (0..SERVICES).map(|n| base + u16::try_from(n).unwrap() * 30).collect();
    let _router = router(directory.path(), &ports);
    let _customers: Vec<Background> = ports.iter().map(|port| customers(directory.path(), port + 20)).collect();

    let mut fleet = Fleet::start(directory.path(), "ana").await.unwrap();
    fleet.ready().await.unwrap();
    let documents: String = (0..SERVICES)
        .map(|service| documents(directory.path(), service, ports[service as usize]))
        .chain([SHARED.to_owned()])
        .collect();
    fleet.apply(&documents).await.unwrap();

    let fleet = Arc::new(RwLock::new(fleet));
    let stop = Arc::new(AtomicBool::new(false));
    let releases: Vec<_> = (0..SERVICES)
        .map(|service| {
            let run = release_again_and_again(fleet.clone(), directory.path().to_owned(), service, stop.clone());
            tokio::spawn(run)
        })
        .collect();
    let done = inject(&fleet, faults, &mut random).await;
    stop.store(true, Ordering::Relaxed);
    println!("{done:#?}");

    let mut runs = 0;
    for (service, release) in (0..SERVICES).zip(releases) {
        for Ended { run, version, is_good } in release.await.unwrap() {
            runs += 1;
            let what = format!("seed {seed}: run {} of shop{service} {version}", run.number);
            let expected = if is_good { Outcome::Succeeded } else { Outcome::RolledBack };
            assert_eq!(run.outcome, Some(expected), "{what}: {}", serde_json::to_string_pretty(&run).unwrap());

            // Verbs: exactly once. A good release has one start for each copy, a bad one never has a second copy at a
            // time and its predecessor was not touched (or its own count would be off).
            let effects = directory.path().join("effects");
            let starts = lines(&effects.join(format!("start-shop{service}-{version}"))).len();
            if is_good {
                assert_eq!(starts, HOSTS, "{what}: copies started");
            }
            // Scripts: at least once, always under the same key.
            let keys = lines(&effects.join(format!("migrate-shop{service}-{version}")));
            assert!(!keys.is_empty(), "{what}: the script has not run");
            assert!(keys.iter().all(|key| *key == keys[0]), "{what}: {keys:?}");
        }
    }
    println!("{runs} runs ended as they would have");
    assert!(runs >= SERVICES as usize, "every service was released");

    let fleet = fleet.read().await;
    let report = cdflow_journal::verify(&fleet.bus).await.unwrap();
    assert!(report.is_whole(), "{:?}", report.breaks);
    assert_each_attempt_started_once(&fleet).await;
}

/// Reads all of JOURNAL: no attempt of a step was started or ended twice, no run started or ended twice.
async fn assert_each_attempt_started_once(fleet: &Fleet) {
    let mut seen = std::collections::BTreeSet::new();
    let mut reader = cdflow_journal::Reader::open(fleet.bus.clone(), "crash-test", Default::default()).await.unwrap();
    while let Ok(read) = tokio::time::timeout(Duration::from_secs(2), reader.next()).await {
        let read = read.unwrap();
        if read.kind == cdflow_protocol::AggregateKind::Run {
            for entry in &read.commit.entries {
                for event in &entry.events {
                    let id = entry.aggregate_id.as_str();
                    let key = match RunEvent::decode(event.as_slice()).unwrap().kind.unwrap() {
                        run_event::Kind::RunStarted(_) => format!("{id} started"),
                        run_event::Kind::RunFinished(_) => format!("{id} finished"),
                        run_event::Kind::StepStarted(e) => {
                            format!("{id} {} {} {} started", e.stage_id, e.step_id, e.attempt)
                        }
                        run_event::Kind::StepFinished(e) => {
                            format!("{id} {} {} {} finished", e.stage_id, e.step_id, e.attempt)
                        }
                        run_event::Kind::StageFinished(e) => format!("{id} {} stage finished", e.stage_id),
                        _ => continue,
                    };
                    assert!(seen.insert(key.clone()), "{key} twice");
                }
            }
        }
        read.ack().await;
    }
    assert!(!seen.is_empty());
}

fn router(directory: &Path, ports: &[u16]) -> Background {
    let mut text = format!(
        "global\n  stats socket {}/haproxy.sock mode 600 level admin\ndefaults\n  mode http\n  option redispatch\n  \
         timeout connect 2s\n  timeout client 10s\n  timeout server 10s\n",
        directory.display()
    );
    for (service, port) in ports.iter().enumerate() {
        let url = port + 20;
        text += &format!("frontend f{service}\n  bind 127.0.0.1:{url}\n  default_backend shop{service}\n");
        text += &format!("backend shop{service}\n  balance roundrobin\n");
    }
    fs::write(directory.join("haproxy.cfg"), text).unwrap();
    let program = Path::new("/usr/sbin/haproxy");
    Background::start(program, &["-db", "-f", "haproxy.cfg"], directory, &directory.join("haproxy.log")).unwrap()
}

fn customers(directory: &Path, port: u16) -> Background {
    let arguments =
        ["--target", &format!("http://127.0.0.1:{port}"), "--rate", "30", "--profile", "testers"].map(str::to_owned);
    let log = directory.join(format!("customers-{port}-{}.log", free_port()));
    Background::start(&binary("storefront-traffic").unwrap(), &arguments, directory, &log).unwrap()
}
