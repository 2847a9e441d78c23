//! Customers: requests through the router, all the time, each of which must be answered.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    pub(crate) by_version: BTreeMap<String, u64>,
    pub(crate) failures: Vec<String>,
}

pub(crate) struct Customers {
    report: Arc<Mutex<Report>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Customers {
    /// Begins to ask, over connections that are kept and new ones.
    pub(crate) fn arrive(url: &str) -> Self {
        let (report, stop) = (Arc::new(Mutex::new(Report::default())), CancellationToken::new());
        let mut tasks = JoinSet::new();
        for number in 0..6 {
            let client = reqwest::Client::builder()
                .pool_max_idle_per_host(if number % 2 == 0 { 1 } else { 0 })
                .timeout(Duration::from_secs(20))
                .build()
                .unwrap();
            let (report, stop, url) = (report.clone(), stop.clone(), format!("{url}/"));
            tasks.spawn(async move {
                while !stop.is_cancelled() {
                    let answer = match client.get(&url).send().await {
                        Ok(answer) if answer.status() == 200 => answer.text().await.map_err(|e| e.to_string()),
                        Ok(answer) => Err(answer.status().to_string()),
                        Err(error) => Err(format!("{error:?}")),
                    };
                    {
                        let mut report = report.lock().unwrap();
                        match answer {
                            Ok(version) => *report.by_version.entry(version).or_default() += 1,
                            Err(error) => report.failures.push(error),
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
            });
        }
        Self { report, stop, tasks }
    }

    /// Percent of the answers of the next while that came from a version.
    pub(crate) async fn share(&self, version: &str, requests: u64) -> f64 {
        self.report.lock().unwrap().by_version.clear();
        loop {
            let by_version = self.report.lock().unwrap().by_version.clone();
            let all: u64 = by_version.values().sum();
            if all >= requests {
                return 100.0 * by_version.get(version).copied().unwrap_or(0) as f64 / all as f64;
            }
            assert!(self.report.lock().unwrap().failures.len() < 50, "nearly all requests fail");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// They leave, and none has a complaint.
    pub(crate) async fn leave_content(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        let report = self.report.lock().unwrap();
        assert!(report.failures.is_empty(), "{} failed, the first: {}", report.failures.len(), report.failures[0]);
    }
}
