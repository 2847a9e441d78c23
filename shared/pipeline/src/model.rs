//! The types of the language: what each kind of document holds.
//!
//! Each is defined once, and its JSON Schema and the way it is read follow from that.

mod address;
mod artifact;
mod choices;
mod environment;
mod health;
mod infrastructure;
mod input;
mod people;
mod pipeline;
pub(crate) mod scalar;
mod selector;
mod service;
mod stage;

pub(crate) use address::is_archive;
pub use address::{AdminSocket, ArchiveLocation, Directory, HostName, HttpUrl, Path, Ports, StartCommand};
pub use artifact::Artifact;
pub use choices::{EnvironmentType, OnCrash, PlatformKind, TransportKind};
pub use environment::{Environment, Floor};
pub use health::{Guards, HealthProfile, Scrape};
pub use infrastructure::{Haproxy, Infrastructure, Router};
pub use input::{Input, InputType};
pub use people::{Group, Person};
pub use pipeline::{ArtifactTrigger, Pipeline, Triggers};
pub use scalar::{
    Condition, Count, Duration, Name, OddsRatio, Pattern, Percentage, Reference, Selector, Template, Text, VariableName,
};
pub use service::{Overrides, Ready, Service, Vm};
pub use stage::{Approval, Retry, Rolling, Stage, Step, Strategy, Verify};

pub use crate::decode::Entries;

/// Variables of a service: `LOG_LEVEL: warn`.
pub type Variables = Entries<VariableName, At<Template>>;

use crate::source::At;
