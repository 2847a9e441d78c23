//! The pipeline language: YAML to checked model to plan.

pub mod expression;
mod nearest;
pub mod plan;

pub use nearest::nearest;
