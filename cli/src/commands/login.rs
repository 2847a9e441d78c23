//! Who we are.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cdflow_access::{Access, KvTokens, TokenKind};
use cdflow_bus::Bus;
use cdflow_console::api::{Login, Me, Session};
use cdflow_protocol::wall_clock;
use console::style;

use crate::{Installation, client::Client, settings::Settings, show};

/// How long a login link can be opened.
const LINK_LIFETIME: Duration = Duration::from_secs(24 * 3_600);

/// `cdflow login`.
#[derive(Debug, clap::Args)]
pub(crate) struct LoginOptions {
    /// The link, as somebody who runs the installation gave it out.
    link: String,
    /// Say nothing when it works.
    #[arg(long, short = 'q')]
    quiet: bool,
}

/// `cdflow login-link`.
#[derive(Debug, clap::Args)]
pub(crate) struct LoginLinkOptions {
    /// Name of a `Person` document.
    person: String,
    /// Base URL of the console for the link; that of the suite in `--state` unless set.
    #[arg(long)]
    console: Option<String>,
    /// Project whose configuration has the person.
    #[arg(long, env = "CDFLOW_PROJECT", default_value = "default")]
    project: String,
    #[command(flatten)]
    installation: Installation,
}

pub(crate) async fn login(options: &LoginOptions) -> Result<()> {
    let Some((server, token)) = options.link.split_once("/login?token=") else {
        bail!("this is no login link: expected https://…/login?token=cdf_…");
    };
    let client = Client::new(Some(server), None)?;
    let session: Session = client.post("/login", &Login { token: token.to_owned() }).await?;
    let settings = Settings { server: server.to_owned(), token: session.token, person: session.person };
    let kept = settings.save()?;
    if !options.quiet {
        show::line(format!("logged in as {} (kept in {})", style(&settings.person).bold(), kept.display()));
    }
    Ok(())
}

pub(crate) async fn login_link(options: &LoginLinkOptions) -> Result<()> {
    let console = match &options.console {
        Some(console) => console.clone(),
        None => crate::up::console_url(&options.installation.state)?,
    };
    let bus = Bus::connect(&options.installation.bus("login-link")?).await?;
    let bundle = bus.configuration().await?.load(&options.project).await?;
    let known = bundle.is_some_and(|(_, bytes)| names(&bytes).contains(&options.person));
    if !known {
        bail!("there is no Person document named `{}`: apply one first", options.person);
    }
    let access = Access::new(KvTokens::open(&bus).await?);
    let token = access.issue(TokenKind::LoginLink, &options.person, Some(LINK_LIFETIME), wall_clock()).await?;
    show::line(format!("{}/login?token={}", console.trim_end_matches('/'), token.expose()));
    Ok(())
}

/// Names of all `Person` documents of a stored bundle.
fn names(bundle: &[u8]) -> Vec<String> {
    serde_json::from_slice::<cdflow_pipeline::Bundle>(bundle)
        .map(|bundle| bundle.documents)
        .unwrap_or_default()
        .into_iter()
        .filter(|document| document.kind == "Person")
        .map(|document| document.name)
        .collect()
}

pub(crate) async fn whoami(client: &Client, json: bool) -> Result<()> {
    let me: Me = client.get("/me", &()).await.context("ask who we are")?;
    if json {
        return show::json(&me);
    }
    let groups = if me.groups.is_empty() { "no group".to_owned() } else { me.groups.join(", ") };
    show::line(format!("{} ({groups}) at {}", style(&me.person).bold(), client.server()));
    Ok(())
}
