//! The pipeline language: YAML to checked model to plan.

pub mod plan;
