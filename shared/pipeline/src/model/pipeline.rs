//! Pipelines: stages, inputs, triggers.

use super::{Entries, Input, Name, Reference, Stage, Text};
use crate::decode::fields;
use crate::source::At;

/// Why a trigger is not there yet.
const TRIGGERS: &str = "this release starts pipelines by artifact events: `artifact: { tag: \"v*\" }`, and by hand";

fields! {
    "a Pipeline";
    /// How versions of a service come to production.
    pub struct Pipeline {
        /// Unique among pipelines.
        pub name: At<Name>,
        /// What is released. Needed for deploy stages.
        pub service: Option<At<Reference>>,
        /// What starts it.
        pub on: Option<Triggers>,
        /// What can be said when it is started.
        #[schemars(default)]
        pub inputs: Entries<Name, At<Input>>,
        /// One after the other, unless they say what they `need`.
        pub stages: Vec<At<Stage>>,
    }
    later {
        "queue": "runs of one service to one infrastructure wait for each other already",
        "supersede": "a newer release supersedes the watch of an older one already",
        "on-failure": "deploy stages roll back when they fail; anything else comes with a later release",
    }
}

fields! {
    "`on`";
    /// What starts a pipeline.
    pub struct Triggers {
        /// A new version of the service's artifact.
        pub artifact: Option<At<ArtifactTrigger>>,
    }
    later {
        "git": TRIGGERS,
        "schedule": TRIGGERS,
        "webhook": TRIGGERS,
        "event": TRIGGERS,
        "pipeline": TRIGGERS,
    }
}

fields! {
    "`artifact`";
    /// Which versions start a pipeline.
    pub struct ArtifactTrigger {
        /// Tags, with `*` for any text and `?` for any character. `*` unless said.
        pub tag: Option<At<Text>>,
    }
}
