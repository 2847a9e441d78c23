//! Services: what is released.

use super::{Artifact, Count, Duration, Entries, Name, Path, Reference, StartCommand, Variables};
use crate::decode::fields;
use crate::source::At;

fields! {
    "a Service";
    /// What is released.
    pub struct Service {
        /// Unique among services.
        pub name: At<Name>,
        /// What a version is.
        pub artifact: At<Artifact>,
        /// The HealthProfile that says what healthy means. Needed for `verify` and `watch`.
        pub health: Option<At<Reference>>,
        /// Variables of its processes. The lowest precedence.
        #[schemars(default)]
        pub variables: Variables,
        /// Variables in single environments, above those of the environment.
        #[schemars(default)]
        pub environments: Entries<Reference, Overrides>,
        /// Variables on single infrastructures, above those of the infrastructure.
        #[schemars(default)]
        pub infrastructure: Entries<Reference, Overrides>,
        /// How it runs on machines.
        pub vm: At<Vm>,
    }
    later {
        "kubernetes": "this release deploys to machines only: describe them with `vm:`",
    }
}

fields! {
    "an override";
    /// What is different there.
    pub struct Overrides {
        /// Variables of its processes there.
        #[schemars(default)]
        pub variables: Variables,
    }
}

fields! {
    "`vm`";
    /// How a service runs on machines.
    pub struct Vm {
        /// Command line, run in the directory of the release.
        pub start: At<StartCommand>,
        /// When an instance is ready.
        pub ready: Option<Ready>,
        /// How long connections may take to drain. 5 s unless said.
        pub drain: Option<At<Duration>>,
        /// Copies on each host. 1 unless said.
        pub instances: Option<At<Count>>,
    }
    later {
        "release": "releases are kept under the service's name, below `root` of the infrastructure: remove it",
        "stop": "instances are stopped with SIGTERM, after `drain`",
        "user": "instances run as the user of the executor",
    }
}

fields! {
    "`ready`";
    /// When an instance is ready.
    pub struct Ready {
        /// Path that answers 200 then.
        pub http: At<Path>,
        /// How long that may take. 30 s unless said.
        pub within: Option<At<Duration>>,
    }
    later {
        "tcp": "an instance is ready when `http:` answers 200",
        "command": "an instance is ready when `http:` answers 200",
    }
}
