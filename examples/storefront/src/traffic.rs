//! Customers of the storefront: an open-loop load generator that tells failures of the shop from failures of the way
//! to it.
//!
//! An answer that carries `x-storefront-version` comes from the shop, whatever its status. Everything else (no
//! connection, a reset, an error page of the router) was lost on the way: a switch of traffic must cause none.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use serde::Serialize;

/// Sends requests at a steady rate until it is told to stop.
#[derive(Parser)]
struct Arguments {
    /// Where the shop is reached, for example http://127.0.0.1:18080.
    #[arg(long)]
    target: String,
    /// Requests each second.
    #[arg(long, default_value_t = 250)]
    rate: u32,
    /// What the customers do.
    #[arg(long, default_value = "production")]
    profile: Profile,
    /// Where to keep the counts, as JSON, written each second.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Stop after so many seconds; 0 goes on.
    #[arg(long, default_value_t = 0)]
    seconds: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Profile {
    /// Look at pages and buy without discount codes, as a test team does.
    Testers,
    /// Half of them buy, half of those with a discount code.
    Production,
}

#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    failed_in_shop: AtomicU64,
    lost_on_the_way: AtomicU64,
    before_first_answer: AtomicU64,
    last_failure: Mutex<Option<String>>,
}

impl Counts {
    fn lost(&self, failure: String) {
        // Until the first version is live there is nothing that could be lost.
        if self.answered.load(Ordering::Relaxed) == 0 {
            self.before_first_answer.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.lost_on_the_way.fetch_add(1, Ordering::Relaxed);
        if let Ok(mut last) = self.last_failure.lock() {
            *last = Some(failure);
        }
    }

    fn report(&self) -> Report {
        Report {
            answered: self.answered.load(Ordering::Relaxed),
            failed_in_shop: self.failed_in_shop.load(Ordering::Relaxed),
            lost_on_the_way: self.lost_on_the_way.load(Ordering::Relaxed),
            before_first_answer: self.before_first_answer.load(Ordering::Relaxed),
            last_failure: self.last_failure.lock().map(|last| last.clone()).unwrap_or_default(),
        }
    }
}

/// The report.
#[derive(Serialize)]
struct Report {
    answered: u64,
    failed_in_shop: u64,
    lost_on_the_way: u64,
    /// Failures while no version had ever answered.
    before_first_answer: u64,
    last_failure: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let client = reqwest::Client::builder().pool_max_idle_per_host(64).timeout(Duration::from_secs(10)).build()?;
    let counts = Arc::new(Counts::default());
    let begun = Instant::now();
    let mut clock = tokio::time::interval(Duration::from_secs(1) / arguments.rate.max(1));
    let mut next_report = begun + Duration::from_secs(1);
    loop {
        clock.tick().await;
        let (customer, customer_counts) = (client.clone(), counts.clone());
        let (base, profile) = (arguments.target.clone(), arguments.profile);
        tokio::spawn(async move {
            if let Err(failure) = visit(&customer, &base, profile, &customer_counts).await {
                customer_counts.lost(failure);
            }
        });
        if Instant::now() >= next_report {
            next_report += Duration::from_secs(1);
            if let Some(path) = &arguments.report {
                let temporary = path.with_extension("tmp");
                std::fs::write(&temporary, serde_json::to_vec_pretty(&counts.report())?)?;
                std::fs::rename(&temporary, path)?;
            }
        }
        if arguments.seconds > 0 && begun.elapsed().as_secs() >= arguments.seconds {
            return Ok(());
        }
    }
}

/// One request; an error when no shop answered it.
async fn visit(client: &reqwest::Client, base: &str, profile: Profile, counts: &Counts) -> Result<(), String> {
    // By chance, not in turn: a router that hands out requests in turn would send all of one sort to one version.
    let request = match (profile, rand::random_range(0..4)) {
        (_, 0) => client.get(format!("{base}/")),
        (_, 1) => client.get(format!("{base}/products")),
        (Profile::Production, 2) => client.post(format!("{base}/checkout?code=SPRING")),
        _ => client.post(format!("{base}/checkout")),
    };
    let answer = request.send().await.map_err(describe)?;
    if !answer.headers().contains_key("x-storefront-version") {
        return Err(format!("status {} from the router", answer.status()));
    }
    counts.answered.fetch_add(1, Ordering::Relaxed);
    if answer.status().is_server_error() {
        counts.failed_in_shop.fetch_add(1, Ordering::Relaxed);
    }
    // Read to the end, so that the connection can be used again.
    answer.bytes().await.map_err(describe)?;
    Ok(())
}

fn describe(error: reqwest::Error) -> String {
    format!("{:#}", anyhow::Error::new(error.without_url()))
}
