//! Environments: where, and how careful.

use super::{Count, Duration, Entries, EnvironmentType, Name, Reference, Template, Variables};
use crate::decode::fields;
use crate::source::At;

fields! {
    "an Environment";
    /// Where services are deployed, and how careful that is done.
    pub struct Environment {
        /// Unique among environments.
        pub name: At<Name>,
        /// What it is for.
        pub r#type: Option<EnvironmentType>,
        /// Approvals without which nothing is deployed there. No pipeline can go around it.
        pub approval: Option<At<Floor>>,
        /// Infrastructures that belong to it. With several, a deploy stage says which.
        pub infrastructure: Vec<At<Reference>>,
        /// Variables of all services there.
        #[schemars(default)]
        pub variables: Variables,
    }
    later {
        "freeze": "windows in which nothing is deployed come with a later release",
    }
}

fields! {
    "`approval`";
    /// The least that has to be approved.
    pub struct Floor {
        /// Fewest approvals of each group.
        pub by: At<Entries<Reference, At<Count>>>,
        /// Until when; never unless said.
        pub expires: Option<At<Duration>>,
        /// What is asked.
        pub message: Option<At<Template>>,
    }
}
