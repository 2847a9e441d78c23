//! The set of documents that `cdflow init` writes.

use crate::source::SourceFile;

/// A small installation that is whole: one service, three environments on this machine, a pipeline with a canary.
pub fn init_example() -> Vec<SourceFile> {
    [
        ("service.yaml", include_str!("example/service.yaml")),
        ("environments.yaml", include_str!("example/environments.yaml")),
        ("people.yaml", include_str!("example/people.yaml")),
        ("pipeline.yaml", include_str!("example/pipeline.yaml")),
    ]
    .map(|(path, text)| SourceFile::new(path, text))
    .into()
}
