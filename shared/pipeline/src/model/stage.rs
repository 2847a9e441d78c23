//! Stages of a pipeline and their steps.

use schemars::json_schema;

use super::choices::word;
use super::{Condition, Count, Duration, Entries, Name, OnCrash, Percentage, Reference, Template, VariableName};
use crate::decode::{Decode, Reader, fields};
use crate::source::At;
use crate::yaml::{Node, Shape};

/// Why stages and steps cannot be multiplied yet.
const REPEATED: &str = "write the stages or steps one by one; `needs:` lets stages run beside each other";
/// Why nothing can be said about failures yet.
const ON_FAILURE: &str = "a deploy stage rolls back when it fails; `retry:` is there for steps";
/// Which steps there are.
const STEPS: &str = "this release has the steps `run` and `wait`";

fields! {
    "a stage";
    /// A stage: one of `deploy`, `approve`, or `steps` alone.
    pub struct Stage {
        /// Unique in the pipeline. The environment's name, or `approve`, unless said; a stage of `steps` alone needs it.
        pub id: Option<At<Name>>,
        /// Stages that have to end well before. The one before unless said; `[]` for none.
        pub needs: Option<Vec<At<Reference>>>,
        /// When it runs. `success()` unless said.
        pub r#if: Option<At<Condition>>,
        /// How long it may take; waiting for people and locks does not use it up.
        pub timeout: Option<At<Duration>>,
        /// The environment to deploy to.
        pub deploy: Option<At<Reference>>,
        /// The infrastructure to deploy to, where the environment has several.
        pub infrastructure: Option<At<Reference>>,
        /// How to go over to the new release. `rolling` unless said.
        pub strategy: Option<At<Strategy>>,
        /// Compare the new release with the old one before promotion.
        pub verify: Option<At<Verify>>,
        /// Go on comparing for this long after promotion.
        pub watch: Option<At<Duration>>,
        /// Before the first change.
        #[schemars(default)]
        pub before: Vec<At<Step>>,
        /// After promotion; in a stage without `deploy`, all there is.
        #[schemars(default)]
        pub steps: Vec<At<Step>>,
        /// After a rollback.
        #[schemars(default)]
        pub on_rollback: Vec<At<Step>>,
        /// Ask people.
        pub approve: Option<At<Approval>>,
    }
    later {
        "matrix": REPEATED,
        "parallel": REPEATED,
        "for-each": REPEATED,
        "on-failure": ON_FAILURE,
        "use": "templates come with a later release",
    }
}

fields! {
    "`approve`";
    /// Ask people.
    pub struct Approval {
        /// Fewest approvals of each group.
        pub by: At<Entries<Reference, At<Count>>>,
        /// Until when; never unless said.
        pub expires: Option<At<Duration>>,
        /// What is asked.
        pub message: Option<At<Template>>,
    }
}

fields! {
    "`verify`";
    /// Compare the new release with the old one.
    pub struct Verify {
        /// Decides as soon as it can, at each weight at the latest after this. 10 m unless said.
        pub within: Option<At<Duration>>,
        /// Instead of the health profile's.
        pub alpha: Option<At<Percentage>>,
        /// Instead of the health profile's.
        pub beta: Option<At<Percentage>>,
        /// Instead of the health profile's.
        pub bake: Option<At<Duration>>,
    }
}

fields! {
    "a step";
    /// A step: one of `run` and `wait`.
    pub struct Step {
        /// Unique in the stage; for `steps.ID.outputs`.
        pub id: Option<At<Name>>,
        /// A script for `sh`. It writes outputs as `name=value` lines to the file `$CDFLOW_OUTPUT`.
        pub run: Option<At<Template>>,
        /// Let time pass.
        pub wait: Option<At<Duration>>,
        /// When it runs. `success()` unless said.
        pub r#if: Option<At<Condition>>,
        /// Environment variables of the script.
        #[schemars(default)]
        pub env: Entries<VariableName, At<Template>>,
        /// How long one attempt may take. 1 h for scripts unless said.
        pub timeout: Option<At<Duration>>,
        /// Try again after failures.
        pub retry: Option<At<Retry>>,
        /// What happens when its executor vanishes. `fail` unless said.
        pub on_crash: Option<At<OnCrash>>,
        /// Executors that may run it. Those of the infrastructure in a deploy stage, else `default`, unless said.
        pub pool: Option<At<Name>>,
    }
    later {
        "http": STEPS,
        "verify": "`verify:` belongs to a deploy stage, beside `deploy:`",
        "approve": "`approve:` is a stage of its own: put it between two stages",
        "policy": STEPS,
        "scan": STEPS,
        "notify": STEPS,
        "queue": STEPS,
        "barrier": STEPS,
        "pipeline": STEPS,
        "manual": STEPS,
        "use": "templates come with a later release",
        "matrix": REPEATED,
        "parallel": REPEATED,
        "for-each": REPEATED,
        "on-failure": ON_FAILURE,
        "irreversible": "asking before a rollback goes past a step comes with a later release",
    }
}

fields! {
    "`retry`";
    /// Try again after failures.
    pub struct Retry {
        /// In all, the first included; at most 100.
        pub attempts: At<Count>,
        /// Between two. 1 s unless said.
        pub interval: Option<At<Duration>>,
    }
    later {
        "backoff": "the interval stays the same in this release",
        "then": "a step that has no attempts left fails",
    }
}

fields! {
    "`rolling`";
    /// How to replace instances.
    pub struct Rolling {
        /// Share of the instances at a time. 25% unless said.
        pub batch: Option<At<Percentage>>,
    }
}

fields! {
    "a strategy";
    /// A strategy with settings: one of the two.
    struct StrategyFields {
        /// Replace a batch after the other.
        pub rolling: Option<Rolling>,
        /// Shares of the traffic, rising.
        pub canary: Option<Vec<At<Percentage>>>,
    }
}

/// How to go over to the new release.
#[derive(Debug, Clone)]
pub enum Strategy {
    /// Replace a batch after the other.
    Rolling(Rolling),
    /// Put the new release beside the old one, then move all traffic at once.
    BlueGreen,
    /// Move the traffic share by share.
    Canary(Vec<At<Percentage>>),
}

#[derive(Clone, Copy)]
enum Word {
    Rolling,
    BlueGreen,
    Canary,
}

impl Decode for Strategy {
    fn decode(node: &Node, reader: &mut Reader) -> Option<Self> {
        if matches!(node.shape, Shape::Map(_)) {
            let before = reader.found.len();
            let fields = StrategyFields::decode(node, reader)?;
            return match (fields.rolling, fields.canary) {
                (Some(rolling), None) => Some(Self::Rolling(rolling)),
                (None, Some(weights)) => Some(Self::Canary(weights)),
                _ if reader.found.len() > before => None,
                _ => reader.mismatch(node, "one strategy: `rolling`, `blue-green` or `canary`"),
            };
        }
        let words = [("rolling", Word::Rolling), ("blue-green", Word::BlueGreen), ("canary", Word::Canary)];
        match word(node, reader, "a strategy", &words)? {
            Word::Rolling => Some(Self::Rolling(Rolling { batch: None })),
            Word::BlueGreen => Some(Self::BlueGreen),
            Word::Canary => reader.mismatch(node, "shares of the traffic: `strategy: { canary: [5%, 25%, 50%] }`"),
        }
    }
}

impl schemars::JsonSchema for Strategy {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Strategy".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        json_schema!({
            "anyOf": [
                { "enum": ["rolling", "blue-green"] },
                generator.subschema_for::<StrategyFields>(),
            ],
        })
    }
}
