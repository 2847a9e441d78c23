//! HAProxy through its runtime API (2.6 and later), with servers that are added and deleted while it runs.
//!
//! What its configuration must have (<https://docs.haproxy.org/2.6/management.html#9.3>):
//! ```text
//! global
//!   stats socket /run/haproxy.sock mode 600 level admin    # or: ipv4@127.0.0.1:9999 level admin
//! backend storefront
//!   balance roundrobin                                     # any dynamic algorithm: roundrobin, leastconn, random
//! ```
//! `option redispatch` and `retries 2` in the backend cover a process that dies by itself. Servers are checked once a second;
//! with `option httpchk` in the backend, by HTTP. A restarted HAProxy knows no servers: the next verb adds them again.
//!
//! Servers whose names do not begin with `cdflow-` are left alone; their share is not counted.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};

use crate::error::Error;

/// How long HAProxy may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Idle connections to a server that has ended keep it from being deleted for a moment.
const DELETE_WITHIN: Duration = Duration::from_secs(8);
/// Begins the name of every server that is ours.
const OURS: &str = "cdflow-";
/// Bits of `srv_admin_state`: in maintenance, for whatever reason, and draining, likewise.
const MAINTENANCE: u32 = 0x01 | 0x02 | 0x04 | 0x20;
const DRAINING: u32 = 0x08 | 0x10;

/// One backend of one HAProxy.
#[derive(Debug, Clone)]
pub(super) struct Haproxy {
    admin: Admin,
    backend: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Admin {
    Unix(String),
    Tcp(String),
}

/// A server as the router sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) endpoint: Endpoint,
    /// As set; see [`Server::traffic`].
    pub(super) weight: u32,
    state: State,
    is_up: bool,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) address: String,
    pub(super) port: u16,
}

/// What the administrator wants of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Draining,
    Maintenance,
}

/// What a server shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) endpoint: Endpoint,
    /// `None` leaves it as it is, 0 for a new one.
    pub(super) weight: Option<u32>,
}

impl Server {
    /// Its part of the traffic, relative to the others.
    pub(super) fn traffic(&self) -> u32 {
        if self.state == State::Ready && self.is_up { self.weight } else { 0 }
    }
}

/// The name of an instance in the router.
pub(super) fn server_name(instance: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
    format!("{OURS}{}", instance.chars().map(safe).collect::<String>())
}

impl Haproxy {
    /// # Errors
    /// [`Error::Configuration`] when the admin address is neither `unix:<path>` nor `tcp:<host>:<port>`.
    pub(super) fn new(admin: &str, backend: &str) -> Result<Self, Error> {
        let parsed = match admin.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => {
                let path = path.strip_prefix("//").unwrap_or(path);
                std::path::absolute(path).ok().map(|path| Admin::Unix(path.display().to_string()))
            }
            Some(("tcp", address)) => {
                let address = address.trim_start_matches('/');
                address
                    .rsplit_once(':')
                    .filter(|(_, port)| port.parse::<u16>().is_ok())
                    .map(|_| Admin::Tcp(address.into()))
            }
            _ => None,
        };
        let admin = parsed.ok_or_else(|| {
            Error::configuration(format!("router admin `{admin}` is neither `unix:<path>` nor `tcp:<host>:<port>`"))
        })?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if backend.is_empty() || !backend.chars().all(is_name) {
            return Err(Error::configuration(format!("`{backend}` cannot be the name of a backend of HAProxy")));
        }
        Ok(Self { admin, backend: backend.into() })
    }

    fn shown(&self) -> String {
        match &self.admin {
            Admin::Unix(path) => format!("unix:{path}"),
            Admin::Tcp(address) => format!("tcp:{address}"),
        }
    }

    /// Our servers, by name.
    pub(super) async fn servers(&self) -> Result<BTreeMap<String, Server>, Error> {
        let command = format!("show servers state {}", self.backend);
        let answer = self.ask(&command).await?;
        parse_servers(&answer).ok_or_else(|| self.refused(&command, &answer))
    }

    /// Makes servers as wanted, those without a weight of their own at last: nobody gets traffic before it is there, and
    /// at no moment everybody is without. Ours that are not wanted get no traffic when `others_idle`.
    pub(super) async fn apply(&self, wanted: &BTreeMap<String, Wanted>, others_idle: bool) -> Result<(), Error> {
        let found = self.servers().await?;
        for (name, wanted) in wanted {
            self.prepare(name, wanted, found.get(name)).await?;
        }
        let found = self.servers().await?;
        let target = |name: &String| match wanted.get(name) {
            Some(wanted) => wanted.weight,
            None => others_idle.then_some(0),
        };
        let (mut more, mut less) = (String::new(), String::new());
        for (name, server) in &found {
            if let Some(weight) = target(name).filter(|weight| *weight != server.weight) {
                let list = if weight > server.weight { &mut more } else { &mut less };
                let _ = write!(list, "set weight {}/{name} {weight};", self.backend);
            }
        }
        // One line is done in one go, so there is no moment between.
        let line = more + &less;
        if !line.is_empty() {
            self.tell(line.trim_end_matches(';')).await?;
        }
        for (name, server) in self.servers().await? {
            if target(&name).is_some_and(|weight| weight != server.weight) {
                return Err(
                    self.refused(&format!("set weight {}/{name}", self.backend), "the weight is another than was set")
                );
            }
        }
        Ok(())
    }

    /// The server exists, at its address, and would take traffic if it had a weight.
    async fn prepare(&self, name: &str, wanted: &Wanted, found: Option<&Server>) -> Result<(), Error> {
        let server = format!("{}/{name}", self.backend);
        let Endpoint { address, port } = &wanted.endpoint;
        let ready = format!("set server {server} state ready");
        match found {
            None => {
                let add = format!("add server {server} {address}:{port} weight 0 check inter 1s fall 2 rise 1");
                let answer = self.ask(&add).await?;
                if !answer.contains("New server registered") {
                    return Err(self.refused(&add, &answer));
                }
                self.tell(&format!("enable health {server}; {ready}")).await
            }
            Some(found) if found.endpoint != wanted.endpoint => {
                self.tell(&format!("set weight {server} 0")).await?;
                // Answers what it has changed.
                self.ask(&format!("set server {server} addr {address} port {port}")).await?;
                self.tell(&ready).await
            }
            Some(found) if found.state != State::Ready => self.tell(&format!("set weight {server} 0; {ready}")).await,
            Some(_) => Ok(()),
        }
    }

    /// Gives servers no new requests, waits until the current ones are answered or the limit is over, and takes them out.
    /// Returns how many connections were still open.
    pub(super) async fn drain(&self, names: &[String], limit: Duration) -> Result<u64, Error> {
        let present = self.servers().await?;
        let names: Vec<&String> = names.iter().filter(|name| present.contains_key(*name)).collect();
        if names.is_empty() {
            return Ok(0);
        }
        let all = |state: &str| {
            let commands = names.iter().map(|name| format!("set server {}/{name} state {state}", self.backend));
            commands.collect::<Vec<_>>().join("; ")
        };
        let in_use = present.iter().any(|(name, server)| names.contains(&name) && server.state != State::Maintenance);
        if !in_use {
            return Ok(0);
        }
        self.tell(&all("drain")).await?;
        let deadline = tokio::time::Instant::now() + limit;
        let open = loop {
            let open = self.open_connections(&names).await?;
            if open == 0 || tokio::time::Instant::now() >= deadline {
                break open;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        self.tell(&all("maint")).await?;
        Ok(open)
    }

    /// Removes servers that are in maintenance. One that cannot be removed yet stays there: without traffic, and removed by
    /// the next attempt.
    pub(super) async fn delete(&self, names: &[String]) -> Result<Vec<String>, Error> {
        let deadline = tokio::time::Instant::now() + DELETE_WITHIN;
        let mut left = names.to_vec();
        loop {
            let present = self.servers().await?;
            left.retain(|name| present.contains_key(name));
            for name in &left {
                let server = format!("{}/{name}", self.backend);
                self.ask(&format!("set server {server} state maint; del server {server}")).await?;
            }
            let present = self.servers().await?;
            left.retain(|name| present.contains_key(name));
            if left.is_empty() || tokio::time::Instant::now() >= deadline {
                return Ok(left);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn open_connections(&self, names: &[&String]) -> Result<u64, Error> {
        let answer = self.ask("show stat").await?;
        parse_open_connections(&answer, &self.backend, names).ok_or_else(|| self.refused("show stat", &answer))
    }

    /// A command that answers nothing when it is done.
    async fn tell(&self, command: &str) -> Result<(), Error> {
        let answer = self.ask(command).await?;
        if answer.trim().is_empty() { Ok(()) } else { Err(self.refused(command, &answer)) }
    }

    async fn ask(&self, command: &str) -> Result<String, Error> {
        let unreachable = |reason: String| Error::RouterUnreachable { admin: self.shown(), reason };
        let exchange = async {
            match &self.admin {
                Admin::Unix(path) => converse(UnixStream::connect(path).await?, command).await,
                Admin::Tcp(address) => converse(TcpStream::connect(address).await?, command).await,
            }
        };
        tokio::time::timeout(ANSWER_WITHIN, exchange)
            .await
            .map_err(|_| unreachable(format!("no answer for {} s", ANSWER_WITHIN.as_secs())))?
            .map_err(|e: std::io::Error| unreachable(e.to_string()))
    }

    fn refused(&self, command: &str, answer: &str) -> Error {
        let answer = answer.trim().lines().next().unwrap_or("no answer").to_owned();
        Error::RouterRefused { admin: self.shown(), command: command.into(), answer }
    }
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, command: &str) -> std::io::Result<String> {
    stream.write_all(format!("{command}\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The table of `show servers state`: a version, a line of names, and a line for each server.
fn parse_servers(answer: &str) -> Option<BTreeMap<String, Server>> {
    let mut lines = answer.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.next().filter(|version| *version == "1")?;
    let header: Vec<&str> = lines.next()?.strip_prefix('#')?.split_ascii_whitespace().collect();
    let column = |name: &str| header.iter().position(|column| *column == name);
    let (name, address, port) = (column("srv_name")?, column("srv_addr")?, column("srv_port")?);
    let (operational, admin, weight) = (column("srv_op_state")?, column("srv_admin_state")?, column("srv_uweight")?);
    lines
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.get(name).is_some_and(|name| name.starts_with(OURS)))
        .map(|fields| {
            let get = |index: usize| fields.get(index).copied();
            let bits: u32 = get(admin)?.parse().ok()?;
            let server = Server {
                endpoint: Endpoint { address: get(address)?.to_owned(), port: get(port)?.parse().ok()? },
                weight: get(weight)?.parse().ok()?,
                state: if bits & MAINTENANCE != 0 {
                    State::Maintenance
                } else if bits & DRAINING != 0 {
                    State::Draining
                } else {
                    State::Ready
                },
                is_up: get(operational)? != "0",
            };
            Some((get(name)?.to_owned(), server))
        })
        .collect()
}

/// Connections that carry a request now or wait for one of these servers, from the CSV of `show stat`.
fn parse_open_connections(answer: &str, backend: &str, names: &[&String]) -> Option<u64> {
    let mut lines = answer.lines();
    let header: Vec<&str> = lines.next()?.trim_start_matches("# ").split(',').collect();
    let column = |name: &str| header.iter().position(|column| *column == name);
    let (proxy, server, queued, current) = (column("pxname")?, column("svname")?, column("qcur")?, column("scur")?);
    let number = |text: Option<&&str>| text.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    Some(
        lines
            .map(|line| line.split(',').collect::<Vec<_>>())
            .filter(|fields| fields.get(proxy) == Some(&backend))
            .filter(|fields| fields.get(server).is_some_and(|found| names.iter().any(|name| name.as_str() == *found)))
            .map(|fields| number(fields.get(queued)) + number(fields.get(current)))
            .sum(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = "1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port
3 b 1 cdflow-a-v1-1 127.0.0.1 2 0 19 0 0 1 0 0 0 0 0 0 - 21001 - 0 0 - - 0
3 b 2 cdflow-a-v2-1 127.0.0.1 2 8 4 0 0 1 0 0 0 0 0 0 - 21002 - 0 0 - - 0
3 b 3 by-hand 127.0.0.1 2 0 1 0 0 1 0 0 0 0 0 0 - 80 - 0 0 - - 0

";

    #[test]
    fn only_our_servers_are_read_and_a_draining_one_has_no_traffic() {
        let servers = parse_servers(STATE).unwrap();
        assert_eq!(servers.len(), 2);
        assert_eq!(servers["cdflow-a-v1-1"].traffic(), 19);
        assert_eq!(servers["cdflow-a-v1-1"].endpoint.port, 21_001);
        assert_eq!((servers["cdflow-a-v2-1"].weight, servers["cdflow-a-v2-1"].traffic()), (4, 0));
    }

    #[test]
    fn what_is_no_table_is_no_answer() {
        for answer in ["", "Can't find backend.\n", "1\n# a b\n1 2\n", "2\n# srv_name\n"] {
            assert_eq!(parse_servers(answer), None, "{answer}");
        }
    }

    #[test]
    fn connections_of_the_named_servers_are_counted() {
        let stat =
            "# pxname,svname,qcur,qmax,scur,smax\nb,one,1,9,2,9\nb,two,0,0,7,7\nc,one,0,0,5,5\nb,BACKEND,0,0,9,9\n";
        assert_eq!(parse_open_connections(stat, "b", &[&"one".to_owned()]), Some(3));
    }

    #[test]
    fn admin_addresses() {
        for good in ["unix:/run/h.sock", "unix:///run/h.sock", "tcp:127.0.0.1:9999", "tcp://10.0.1.5:9999"] {
            assert!(Haproxy::new(good, "b").is_ok(), "{good}");
        }
        for bad in ["", "/run/h.sock", "tcp:host", "http://x:1", "unix:"] {
            assert!(matches!(Haproxy::new(bad, "b"), Err(Error::Configuration { .. })), "{bad}");
        }
        assert!(Haproxy::new("tcp:h:1", "b; shutdown").is_err());
    }
}
