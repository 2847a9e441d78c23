//! The pipeline language: YAML to checked model to plan.
//!
//! - [`Configuration::parse`] reads documents and checks them against each other. It finds everything that is wrong,
//!   not only the first, and says of each file, line, column, what was expected and the nearest valid name.
//! - [`Bundle`] is what is kept of them.
//! - [`matching`] says which pipelines an artifact event starts, and why not the others.
//! - [`compile`] and [`compile_deployment`] make a [`plan::Plan`]: every reference resolved, every default filled in.
//!   A run depends on nothing else from then on.
//! - [`expression`] evaluates what is left open in a plan: `${{ }}` and `if:`.
//!
//! All of it is pure: no clock, no network, no files. The same documents and the same request give the same plan, so a
//! crash in the middle is answered by doing it again. No document makes it panic, nor take long.
//!
//! ```
//! use cdflow_pipeline::{Configuration, Request, compile, init_example};
//!
//! let configuration = Configuration::parse(init_example())?;
//! let request = Request {
//!     pipeline: "storefront".into(),
//!     version: Some("v1.2.0".into()),
//!     ..Request::default()
//! };
//! let plan = compile(&configuration, &request)?;
//! let stages: Vec<&str> = plan.stages.iter().map(|stage| stage.id.as_str()).collect();
//! assert_eq!(stages, ["dev", "staging", "approve", "prod"]);
//!
//! let misspelled = Request { pipeline: "storfront".into(), ..request };
//! let error = compile(&configuration, &misspelled).expect_err("there is no such pipeline");
//! assert_eq!(error.records()[0].help, "did you mean `storefront`?");
//! # Ok::<(), cdflow_pipeline::Diagnostics>(())
//! ```

mod bundle;
mod check;
mod compile;
mod configuration;
mod decode;
mod diagnostic;
mod example;
pub mod expression;
mod matching;
pub mod model;
mod nearest;
pub mod plan;
mod schema;
mod source;
mod yaml;

pub use bundle::{Bundle, StoredDocument};
pub use compile::{Deployment, Request, compile, compile_deployment};
pub use configuration::{Configuration, Kind};
pub use diagnostic::{Code, Diagnostic, DiagnosticRecord, Diagnostics};
pub use example::init_example;
pub use matching::{ArtifactEvent, Match, matching};
pub use nearest::nearest;
pub use schema::schema;
pub use source::{At, Place, SourceFile};
