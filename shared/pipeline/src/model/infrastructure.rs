//! Infrastructure: the target.

use super::{AdminSocket, Directory, HostName, HttpUrl, Name, PlatformKind, Ports, Text, TransportKind, Variables};
use crate::decode::fields;
use crate::source::At;

fields! {
    "an Infrastructure";
    /// Where services run.
    pub struct Infrastructure {
        /// Unique among infrastructures.
        pub name: At<Name>,
        /// What runs services there.
        pub platform: At<PlatformKind>,
        /// How its hosts are reached. `local` unless said.
        pub transport: Option<At<TransportKind>>,
        /// Names of its hosts; with the transport `local` each is a directory below `root`.
        pub hosts: Vec<At<HostName>>,
        /// Directory of releases and state. A relative one is below where the executor was started.
        pub root: At<Directory>,
        /// Ports that instances may listen on.
        pub ports: At<Ports>,
        /// What splits the traffic. Needed for `blue-green` and `canary`.
        pub router: Option<At<Router>>,
        /// Executors that can reach it. `default` unless said.
        pub pool: Option<At<Name>>,
        /// Variables of all services there.
        #[schemars(default)]
        pub variables: Variables,
    }
    later {
        "ssh": "SSH comes with a later release: use `transport: local`, with an executor on the machine",
    }
}

fields! {
    "`router`";
    /// What splits the traffic between releases.
    pub struct Router {
        /// HAProxy, through its runtime API.
        pub haproxy: Haproxy,
    }
    later {
        "nginx": "this release splits traffic with HAProxy: `haproxy:`",
        "envoy": "this release splits traffic with HAProxy: `haproxy:`",
    }
}

fields! {
    "`haproxy`";
    /// An HAProxy that runs already.
    pub struct Haproxy {
        /// Its admin socket: `unix:/path` or `tcp://host:port`.
        pub admin: At<AdminSocket>,
        /// Name of the backend.
        pub backend: At<Text>,
        /// Where users reach the service.
        pub url: At<HttpUrl>,
    }
}
