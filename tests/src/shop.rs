//! The example around the suite: archives, a router, customers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use cdflow_testkit::free_port;
use serde::Deserialize;

use crate::{Background, KillWhatRunsIn, binary};

/// The environments of the example, and the ports that its router listens on.
const ENVIRONMENTS: [(&str, &str); 4] = [("dev", "18081"), ("qa", "18082"), ("staging", "18083"), ("prod", "18080")];

/// A working directory with the documents of `examples/storefront` and a running HAProxy, on ports of its own.
pub struct Shop {
    directory: tempfile::TempDir,
    ports: Vec<(String, u16)>,
    _router: Background,
    _instances: KillWhatRunsIn,
}

impl Shop {
    /// Copies the example and starts its router.
    ///
    /// # Errors
    /// When HAProxy is not installed or does not start.
    pub fn open() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("cdflow-e2e-").tempdir()?;
        fs::create_dir_all(directory.path().join(".cdflow/dist"))?;
        let ports: Vec<(String, u16)> =
            ENVIRONMENTS.iter().map(|(name, _)| ((*name).to_owned(), free_port())).collect();
        let base = port_range()?;
        let here = example();
        let translate = |text: String| {
            let text = ENVIRONMENTS.iter().zip(&ports).fold(text, |text, ((_, from), (_, to))| {
                text.replace(&format!("127.0.0.1:{from}"), &format!("127.0.0.1:{to}"))
            });
            // 21000-21249 in the documents.
            (0..250)
                .step_by(50)
                .fold(text, |text, offset| {
                    let (low, high) = (21_000 + offset, 21_000 + offset + 49);
                    text.replace(&format!("{low}-{high}"), &format!("{}-{}", base + offset, base + offset + 49))
                })
                .replace("21150-21249", &format!("{}-{}", base + 150, base + 249))
        };
        fs::create_dir_all(directory.path().join("cdflow"))?;
        for entry in fs::read_dir(here.join("cdflow"))? {
            let path = entry?.path();
            let name = path.file_name().context("a file has a name")?;
            fs::write(directory.path().join("cdflow").join(name), translate(fs::read_to_string(&path)?))?;
        }
        let configuration = translate(fs::read_to_string(here.join("haproxy.cfg"))?);
        fs::write(directory.path().join("haproxy.cfg"), configuration)?;
        let mut haproxy =
            ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy", "/usr/bin/haproxy"].into_iter().map(Path::new);
        let haproxy = haproxy.find(|path| path.exists()).context("HAProxy: `scripts/install-tools test`")?;
        let arguments = ["-db", "-f", "haproxy.cfg"];
        let router = Background::start(haproxy, &arguments, directory.path(), &directory.path().join("haproxy.log"))?;
        let instances = KillWhatRunsIn(directory.path().to_owned());
        Ok(Self { directory, ports, _router: router, _instances: instances })
    }

    /// Where `.cdflow` and the documents are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where users reach an environment.
    ///
    /// # Errors
    /// When there is no such environment.
    pub fn url(&self, environment: &str) -> Result<String> {
        let (_, port) = self.ports.iter().find(|(name, _)| name == environment).context("an environment")?;
        Ok(format!("http://127.0.0.1:{port}"))
    }

    /// Builds the archive of a version: its path below [`Shop::directory`] and its digest.
    ///
    /// # Errors
    /// When the script fails.
    pub fn archive(&self, version: &str) -> Result<(String, String)> {
        let target = binary("storefront")?;
        let target = target.ancestors().nth(2).context("target/<profile>/storefront")?;
        let dist = self.directory.path().join(".cdflow/dist");
        let output =
            Command::new(example().join("release")).arg(version).arg(&dist).env("CARGO_TARGET_DIR", target).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout)?;
        let digest = text.split_whitespace().nth(1).context("a digest")?.to_owned();
        Ok((format!(".cdflow/dist/storefront-{version}.tar.gz"), digest))
    }

    /// Customers that send requests to an environment until they are dropped.
    ///
    /// # Errors
    /// When they cannot be started.
    pub fn customers(&self, environment: &str, rate: u32, profile: &str) -> Result<Customers> {
        let report = self.directory.path().join(format!("{environment}-customers.json"));
        let arguments = [
            "--target".to_owned(),
            self.url(environment)?,
            "--rate".to_owned(),
            rate.to_string(),
            "--profile".to_owned(),
            profile.to_owned(),
            "--report".to_owned(),
            report.display().to_string(),
        ];
        let log = self.directory.path().join(format!("{environment}-customers.log"));
        let process = Background::start(&binary("storefront-traffic")?, &arguments, self.directory.path(), &log)?;
        Ok(Customers { report, _process: process })
    }
}

/// Running customers.
pub struct Customers {
    report: PathBuf,
    _process: Background,
}

/// What customers saw.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Report {
    /// Answers by a shop, good or bad.
    pub answered: u64,
    /// Of these, with a status of 500 or more.
    pub failed_in_shop: u64,
    /// Requests that no shop answered, after the first answer.
    pub lost_on_the_way: u64,
    /// What the last of these saw.
    pub last_failure: Option<String>,
}

impl Customers {
    /// What they saw until about a second ago.
    pub fn report(&self) -> Report {
        fs::read(&self.report).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Waits until the report covers this moment.
    pub async fn settled_report(&self) -> Report {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        self.report()
    }
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/storefront")
}

/// First of 250 ports in a row that nobody listens on, below the ephemeral range.
fn port_range() -> Result<u16> {
    let seed = u16::try_from(std::process::id() % 40).unwrap_or(0);
    (0..40)
        .map(|n| 20_000 + 250 * ((seed + n) % 40))
        .find(|base| (0..250).step_by(10).all(|n| std::net::TcpListener::bind(("127.0.0.1", base + n)).is_ok()))
        .context("250 free ports in a row")
}
