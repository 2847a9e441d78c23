//! `GET` and `PUT /configuration`.

use axum::{
    Extension, Json,
    extract::{State, rejection::JsonRejection},
};
use cdflow_pipeline::{
    Bundle, Code, Configuration as Checked, DiagnosticRecord, Diagnostics, SourceFile, StoredDocument as Stored,
};

use super::{Failure, Viewer};
use crate::{
    api::{Configuration, ConfigurationReplaced, DiagnosticView, ReplaceConfiguration, StoredDocument},
    console::Console,
};

/// The store takes values up to 900 KiB.
const LARGEST: usize = 850 << 10;

pub(super) async fn read(State(console): State<Console>) -> Result<Json<Configuration>, Failure> {
    let configuration = console.newest_configuration().await?;
    let documents = configuration.bundle().documents.iter().map(|document| StoredDocument {
        kind: document.kind.clone(),
        name: document.name.clone(),
        file: document.file.clone(),
        line: document.line as u64,
        text: document.text.clone(),
    });
    Ok(Json(Configuration { revision: configuration.revision(), documents: documents.collect() }))
}

pub(super) async fn replace(
    State(console): State<Console>,
    Extension(viewer): Extension<Viewer>,
    request: Result<Json<ReplaceConfiguration>, JsonRejection>,
) -> Result<Json<ConfigurationReplaced>, Failure> {
    let Json(request) = request?;
    let stored = console.newest_configuration().await?;
    let revision = stored.revision();
    if request.expected_revision != revision {
        return Err(Failure::Conflict { expected: request.expected_revision, found: revision });
    }
    let files: Vec<SourceFile> =
        request.documents.into_iter().map(|document| SourceFile::new(document.file, document.text)).collect();
    let bundle = if request.keep_others {
        added(stored.bundle(), &files)
    } else {
        Checked::parse(files).map(|checked| checked.bundle())
    };
    let bundle = bundle.map_err(|diagnostics| invalid(&diagnostics))?;
    let unchanged = bundle == *stored.bundle();
    let removed = removed(stored.bundle(), &bundle);
    if unchanged || request.dry_run {
        return Ok(Json(ConfigurationReplaced { revision, changed: !unchanged, removed }));
    }
    let body = serde_json::to_vec(&bundle)
        .map_err(|error| Failure::Internal(format!("the configuration cannot be encoded: {error}")))?;
    if body.len() > LARGEST {
        return Err(Failure::TooLarge(format!(
            "the configuration has {} KiB, and {} KiB are the most that is stored: split the project",
            body.len() >> 10,
            LARGEST >> 10
        )));
    }
    match console.store().replace(console.project(), revision, body.into()).await {
        Ok(revision) => {
            tracing::info!(revision, person = %viewer.person, "configuration applied");
            Ok(Json(ConfigurationReplaced { revision, changed: true, removed }))
        }
        Err(cdflow_bus::Error::Conflict { .. }) => {
            let found = console.newest_configuration().await?.revision();
            Err(Failure::Conflict { expected: revision, found })
        }
        Err(error) => Err(error.into()),
    }
}

/// Documents of `before` that are not in `after`.
fn removed(before: &Bundle, after: &Bundle) -> Vec<String> {
    let stays = |gone: &&Stored| after.documents.iter().any(|new| new.kind == gone.kind && new.name == gone.name);
    let gone = before.documents.iter().filter(|document| !stays(document));
    gone.map(|document| format!("{} {}", document.kind, document.name)).collect()
}

/// What is stored, with the documents of `files` added or in the place of those of the same kind and name. All are
/// checked together, so a document may name what is stored and not sent.
fn added(stored: &Bundle, files: &[SourceFile]) -> Result<Bundle, Diagnostics> {
    let check = |others: &[&Stored]| {
        let others = others.iter().map(|document| at_its_place(document));
        Checked::parse(files.iter().cloned().chain(others)).map(|checked| checked.bundle())
    };
    let mut others: Vec<&Stored> = stored.documents.iter().collect();
    let all = check(&others).or_else(|diagnostics| {
        // What is sent comes first, so of two it is the stored one that is called the second.
        let replaced = |document: &Stored| {
            let last = document.line + document.text.lines().count();
            diagnostics.iter().filter(|found| found.code == Code::Duplicate).any(|found| {
                let place = found.place.as_ref();
                place.is_some_and(|at| at.file() == document.file && (document.line..=last).contains(&at.line()))
            })
        };
        others.retain(|document| !replaced(document));
        check(&others)
    })?;
    let mut bundle = stored.clone();
    bundle.merge(all);
    Ok(bundle)
}

/// Behind as many blank lines as there were lines before it in its file.
fn at_its_place(document: &Stored) -> SourceFile {
    let before = "\n".repeat(document.line.saturating_sub(1));
    SourceFile::new(&document.file, before + &document.text)
}

/// Everything that is wrong, with its places.
pub(super) fn invalid(diagnostics: &Diagnostics) -> Failure {
    let views = diagnostics.records().into_iter().map(|record: DiagnosticRecord| DiagnosticView {
        code: record.code,
        severity: "error".into(),
        file: record.file,
        line: u32::try_from(record.line).unwrap_or(u32::MAX),
        column: u32::try_from(record.column).unwrap_or(u32::MAX),
        message: record.message,
        help: record.help,
    });
    Failure::Invalid(views.collect())
}
