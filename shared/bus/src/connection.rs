//! The connection of one service.

use std::{sync::Arc, time::Duration};

use async_nats::{
    Client, ConnectOptions, Event, ServerError,
    jetstream::{self, Context},
};
use tokio::sync::watch;

use crate::{Error, Installation, installation, room::Room};

/// How to reach the server, and as whom.
#[derive(Debug, Clone)]
pub struct Options {
    /// `nats://host:port`, several separated by commas.
    pub url: String,
    /// Shown in the server's list of connections.
    pub name: String,
    /// Nobody, unless set.
    pub credentials: Option<Credentials>,
    /// How long to wait for the first connection.
    pub connect_within: Duration,
}

impl Options {
    /// Without credentials, waiting 10 s for the server.
    pub fn new(url: impl Into<String>, name: impl Into<String>) -> Self {
        Self { url: url.into(), name: name.into(), credentials: None, connect_within: Duration::from_secs(10) }
    }

    /// The same server for another service.
    pub fn named(&self, name: &str) -> Self {
        Self { name: name.into(), ..self.clone() }
    }

    /// With these credentials.
    pub fn with_credentials(self, credentials: Credentials) -> Self {
        Self { credentials: Some(credentials), ..self }
    }
}

/// Who a service is to the NATS server.
#[derive(Clone)]
pub enum Credentials {
    /// Name and password from the server's configuration.
    User {
        /// Name.
        name: String,
        /// Password.
        password: String,
    },
    /// Seed of an nkey user.
    NkeySeed(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User { name, .. } => write!(f, "User({name})"),
            Self::NkeySeed(_) => f.write_str("NkeySeed"),
        }
    }
}

/// A connection to an installation. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    context: Context,
    installation: Arc<Installation>,
    health: watch::Receiver<Option<String>>,
    room: Arc<Room>,
}

impl Bus {
    /// Connects and checks server and streams.
    ///
    /// # Errors
    /// [`Error::Connect`], [`Error::ServerTooOld`], [`Error::NotInstalled`], [`Error::Mismatch`].
    pub async fn connect(options: &Options) -> Result<Self, Error> {
        let (client, health) = connect(options).await?;
        let context = context(client);
        let installation = installation::read(&context).await?;
        Ok(Self { context, installation: Arc::new(installation), health, room: Arc::default() })
    }

    pub(crate) fn room(&self) -> &Room {
        &self.room
    }

    /// The JetStream context, for what has no typed call here.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The plain client.
    pub fn client(&self) -> Client {
        self.context.client()
    }

    /// What this server holds.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// Reads the installation's metadata again: the incarnation rises when the journal is restored.
    ///
    /// # Errors
    /// As [`Bus::connect`].
    pub async fn read_installation(&self) -> Result<Installation, Error> {
        installation::read(&self.context).await
    }

    /// `Some(reason)` while the connection cannot be used as it should be: it is down, or the server has refused a
    /// subject (which a publisher would only see as a timeout).
    pub fn health(&self) -> watch::Receiver<Option<String>> {
        self.health.clone()
    }

    /// Largest message that the server takes, in bytes.
    pub fn max_payload(&self) -> usize {
        self.client().server_info().max_payload
    }
}

pub(crate) fn context(client: Client) -> Context {
    jetstream::context::ContextBuilder::new()
        .timeout(Duration::from_secs(5))
        .ack_timeout(Duration::from_secs(2))
        .build(client)
}

pub(crate) async fn connect(options: &Options) -> Result<(Client, watch::Receiver<Option<String>>), Error> {
    // The process may link two implementations of the same algorithms (an HTTP client brings one), and then TLS panics
    // unless one is the default. Choosing twice is an error, and all the same: whoever was first has chosen.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (report, health) = watch::channel(None);
    let service = options.name.clone();
    let report = Arc::new(report);
    let mut connect = ConnectOptions::new()
        .name(&options.name)
        .ping_interval(Duration::from_secs(10))
        .request_timeout(Some(Duration::from_secs(5)))
        .custom_inbox_prefix(format!("_INBOX_{}", cdflow_protocol::ids::token(&options.name)))
        .reconnect_delay_callback(|attempts| Duration::from_millis((50 * attempts as u64).min(1_000)))
        .event_callback(move |event| {
            let (service, report) = (service.clone(), report.clone());
            async move { note(&service, &report, &event) }
        });
    connect = match &options.credentials {
        Some(Credentials::User { name, password }) => connect.user_and_password(name.clone(), password.clone()),
        Some(Credentials::NkeySeed(seed)) => connect.nkey(seed.clone()),
        None => connect,
    };
    let servers: Vec<String> = options.url.split(',').map(str::trim).map(String::from).collect();
    let deadline = tokio::time::Instant::now() + options.connect_within;
    let client = loop {
        match connect.clone().connect(&servers).await {
            Ok(client) => break client,
            Err(error) if tokio::time::Instant::now() >= deadline => {
                return Err(Error::Connect { url: without_user(&options.url), reason: error.to_string() });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    let version = client.server_info().version;
    if !new_enough(&version) {
        return Err(Error::ServerTooOld { version });
    }
    Ok((client, health))
}

fn note(service: &str, report: &watch::Sender<Option<String>>, event: &Event) {
    match event {
        Event::Connected => {
            report.send_replace(None);
        }
        Event::Disconnected => {
            report.send_replace(Some("disconnected from NATS".into()));
        }
        // Otherwise a publish that the server refuses is only seen as a timeout.
        Event::ServerError(ServerError::Other(text)) if text.to_ascii_lowercase().contains("permissions violation") => {
            tracing::error!(service, error = %text, "NATS refused a subject: check the permissions of this service's user");
            report.send_replace(Some(text.clone()));
        }
        Event::ServerError(_) | Event::ClientError(_) | Event::SlowConsumer(_) => {
            tracing::warn!(service, %event, "NATS connection");
        }
        Event::LameDuckMode | Event::Draining | Event::Closed => tracing::info!(service, %event, "NATS connection"),
    }
}

fn without_user(url: &str) -> String {
    url.split(',')
        .map(|one| match (one.find("://"), one.rfind('@')) {
            (Some(scheme), Some(at)) if at > scheme => format!("{}{}", &one[..scheme + 3], &one[at + 1..]),
            _ => one.to_owned(),
        })
        .collect::<Vec<_>>()
        .join(",")
}

fn new_enough(version: &str) -> bool {
    let mut parts = version.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    (major, minor) >= (2, 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_before_2_12_are_refused() {
        for (version, expected) in
            [("2.9.10", false), ("2.11.9", false), ("2.12.0", true), ("2.15.0", true), ("3.0.0", true), ("x", false)]
        {
            assert_eq!(new_enough(version), expected, "{version}");
        }
    }

    #[test]
    fn an_error_never_shows_a_password() {
        assert_eq!(without_user("nats://me:secret@h:1,nats://x:2"), "nats://h:1,nats://x:2");
        let credentials = Credentials::User { name: "me".into(), password: "secret".into() };
        assert!(!format!("{credentials:?}").contains("secret"));
    }
}
