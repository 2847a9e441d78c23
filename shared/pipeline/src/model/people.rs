//! People and groups of them.

use super::{Name, Reference, Text};
use crate::decode::fields;
use crate::source::At;

fields! {
    "a Person";
    /// Somebody who can sign in.
    pub struct Person {
        /// Unique among people.
        pub name: At<Name>,
        /// Where mail reaches them.
        pub email: Option<At<Text>>,
        /// Who they are on Slack.
        pub slack: Option<At<Text>>,
    }
}

fields! {
    "a Group";
    /// People who approve together.
    pub struct Group {
        /// Unique among groups.
        pub name: At<Name>,
        /// Names of people.
        pub members: Vec<At<Reference>>,
    }
}
