//! A collection task against instances that serve, hang and die.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing::get};
use cdflow_protocol::v1::{Arm, CollectTask, Instance, Readings};
use cdflow_verifier::collector::Collection;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

async fn instance(requests: Arc<AtomicU64>) -> SocketAddr {
    let page = async move || {
        let total = requests.fetch_add(10, Ordering::SeqCst);
        format!("http_requests_total{{code=\"200\"}} {total}\nprocess_start_time_seconds 1700000000\n")
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/metrics", get(page))).await });
    address
}

fn task(new: SocketAddr, old: &[SocketAddr]) -> CollectTask {
    let instance = |(index, address): (usize, &SocketAddr), name: &str| Instance {
        id: format!("{name}-{index}"),
        url: format!("http://{address}"),
        ..Instance::default()
    };
    CollectTask {
        verification_id: "run-1.prod".into(),
        arms: vec![
            Arm { canary: true, instances: vec![instance((0, &new), "new")] },
            Arm { canary: false, instances: old.iter().enumerate().map(|old| instance(old, "old")).collect() },
        ],
        every_ms: 20,
        path: "/metrics".into(),
        requests: "http_requests_total".into(),
        errors: r#"http_requests_total{code=~"5.."}"#.into(),
    }
}

#[tokio::test]
async fn totals_of_all_instances_arrive_at_every_tick_until_it_is_told_to_stop() {
    let (new, old) = (instance(Arc::default()).await, instance(Arc::default()).await);
    let dead: SocketAddr = "127.0.0.1:1".parse().expect("an address");
    let collection = Collection::of("task-1", &task(new, &[old, dead])).expect("valid");
    let stop = CancellationToken::new();
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let running = tokio::spawn({
        let stop = stop.clone();
        async move { collection.run(stop, |readings| sender.send(readings).expect("still wanted")).await }
    });
    let mut seen: Vec<Readings> = Vec::new();
    while seen.len() < 3 {
        seen.push(receiver.recv().await.expect("readings"));
    }
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(10), running).await.expect("it stops").expect("no panic");

    for (index, readings) in seen.iter().enumerate() {
        assert_eq!(readings.task_id, "task-1");
        let ids: Vec<_> =
            readings.readings.iter().map(|reading| (reading.instance_id.as_str(), reading.canary)).collect();
        assert_eq!(ids, [("new-0", true), ("old-0", false), ("old-1", false)]);
        assert_eq!(readings.readings[0].requests, 10.0 * index as f64);
        assert_eq!(readings.readings[0].started, 1_700_000_000.0);
        assert!(readings.readings[2].failure.contains("could not be reached"), "{:?}", readings.readings[2]);
    }
    assert!(seen.windows(2).all(|pair| pair[0].time_ms <= pair[1].time_ms));
}

#[test]
fn a_task_that_makes_no_sense_is_refused_with_what_is_wrong() {
    let address: SocketAddr = "127.0.0.1:1".parse().expect("an address");
    let refusal = |change: fn(&mut CollectTask)| {
        let mut task = task(address, &[]);
        change(&mut task);
        Collection::of("task-1", &task).expect_err("refused").to_string()
    };
    assert_eq!(
        refusal(|task| task.errors = "rate(x)".into()),
        "the selector of errors in the health profile: the selector `rate(x)` cannot be read at character 5: expected \
         nothing more: functions and ranges are not supported"
    );
    assert_eq!(refusal(|task| task.every_ms = 0), "the scrape interval is 0 ms: it must be above 0");
}
