//! `GET` and `PUT /configuration`.

use axum::{
    Extension, Json,
    extract::{State, rejection::JsonRejection},
};
use cdflow_pipeline::{Bundle, Configuration as Checked, DiagnosticRecord, Diagnostics, SourceFile};

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
    let files = request.documents.into_iter().map(|document| SourceFile::new(document.file, document.text));
    let mut bundle = Checked::parse(files).map(|checked| checked.bundle());
    if request.keep_others {
        // Names of documents that stay are known too: they are checked together.
        bundle = match bundle {
            Ok(bundle) => Ok(merged(stored.bundle(), bundle)),
            Err(diagnostics) => Err(diagnostics),
        };
    }
    let bundle = bundle.map_err(|diagnostics| invalid(&diagnostics))?;
    bundle.parse().map_err(|diagnostics| invalid(&diagnostics))?;
    let unchanged = bundle == *stored.bundle();
    if unchanged || request.dry_run {
        return Ok(Json(ConfigurationReplaced { revision, changed: !unchanged }));
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
            Ok(Json(ConfigurationReplaced { revision, changed: true }))
        }
        Err(cdflow_bus::Error::Conflict { .. }) => {
            let found = console.newest_configuration().await?.revision();
            Err(Failure::Conflict { expected: revision, found })
        }
        Err(error) => Err(error.into()),
    }
}

fn merged(stored: &Bundle, new: Bundle) -> Bundle {
    let mut all = stored.clone();
    all.merge(new);
    all
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
