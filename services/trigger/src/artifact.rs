//! What a CDEvents `artifact.published` event says.
//!
//! Read from events of spec 0.3 to 0.5 and of drafts alike, and unknown fields are left alone: a CI system that is newer
//! than this reader is no reason to stop releasing.
//!
//! | here | from, first that is there |
//! |---|---|
//! | `name` | name of the purl in `subject.id` |
//! | `version` | `customData.version`; the qualifier `tag`; the purl's version |
//! | `digest` | `customData.digest`; the purl's version if it is a `sha256:`; the `sha256:` in the qualifier `checksum` |
//! | `location` | `customData.location`; the qualifier `download_url`; `<repository>@<digest>` of an image |
//! | `repository` | `customData.repository`; the qualifier `repository_url`, both without `https://` |
//!
//! Purl is <https://github.com/package-url/purl-spec>. An image is `pkg:oci/storefront@sha256:…?repository_url=
//! registry.example.com/shop/storefront&tag=v1.2.0`, an archive `pkg:generic/storefront@v1.2.0?checksum=sha256:…&
//! download_url=https://…/storefront-v1.2.0.tar.gz`.

use std::str::FromStr as _;

use cdflow_pipeline::ArtifactEvent;
use packageurl::PackageUrl;
use serde::Deserialize;

/// Begin of the type of the events that are read here; a version follows.
pub const PUBLISHED: &str = "dev.cdevents.artifact.published.";

/// Why an `artifact.published` event tells nothing that can be released.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// No JSON data.
    #[error("it carries no JSON data: expected a CDEvent with `context` and `subject`")]
    NoData,
    /// Not of the form of a CDEvent.
    #[error("its data are no CDEvent: {0}")]
    Form(String),
    /// `subject.id` is no purl.
    #[error(
        "its subject.id {id:?} is no package URL: {reason}. Expected for example `pkg:oci/app@sha256:…?repository_url=…&tag=v1`"
    )]
    Purl {
        /// As sent, shortened.
        id: String,
        /// As the parser says it.
        reason: String,
    },
    /// Neither tag nor version.
    #[error(
        "it names no version: put one into the package URL (`pkg:generic/app@v1`), its `tag` or customData.version"
    )]
    NoVersion,
    /// A digest of the wrong form.
    #[error("its digest {0:?} is not `sha256:` and 64 hexadecimal digits")]
    Digest(String),
    /// A value too long to be kept.
    #[error("its {what} has {length} bytes, and at most {LONGEST} are taken")]
    TooLong {
        /// Which value.
        what: &'static str,
        /// Its length.
        length: usize,
    },
}

/// Longest value in bytes.
const LONGEST: usize = 2_048;
const SHA256: &str = "sha256:";

#[derive(Deserialize)]
struct CdEvent {
    /// Must be there; what it says is in the envelope too.
    #[serde(rename = "context")]
    _context: serde_json::Map<String, serde_json::Value>,
    subject: Subject,
    #[serde(default, rename = "customData")]
    custom_data: serde_json::Value,
}

#[derive(Deserialize)]
struct Subject {
    id: String,
}

/// What the data of an event say.
///
/// # Errors
/// [`Unreadable`].
pub fn published(data: Option<serde_json::Value>) -> Result<ArtifactEvent, Unreadable> {
    let data = data.ok_or(Unreadable::NoData)?;
    let event: CdEvent = serde_json::from_value(data).map_err(|error| Unreadable::Form(error.to_string()))?;
    let custom = |key: &str| event.custom_data.get(key).and_then(|value| value.as_str()).unwrap_or("").trim();
    let purl = PackageUrl::from_str(&event.subject.id)
        .map_err(|error| Unreadable::Purl { id: shorten(&event.subject.id), reason: error.to_string() })?;
    let qualifier = |key: &str| purl.qualifiers().get(key).map(AsRef::as_ref).unwrap_or("").trim();
    let purl_version = purl.version().unwrap_or("");

    let version = first([custom("version"), qualifier("tag"), purl_version]);
    if version.is_empty() {
        return Err(Unreadable::NoVersion);
    }
    let of_purl = if purl_version.starts_with(SHA256) { purl_version } else { "" };
    let checksum = qualifier("checksum").split(',').map(str::trim).find(|sum| sum.starts_with(SHA256));
    let digest = digest(first([custom("digest"), of_purl, checksum.unwrap_or("")]))?;
    let repository = without_scheme(first([custom("repository"), qualifier("repository_url")])).to_owned();
    let image =
        if repository.is_empty() || digest.is_empty() { String::new() } else { format!("{repository}@{digest}") };
    let location = first([custom("location"), qualifier("download_url"), &image]).to_owned();

    let artifact =
        ArtifactEvent { name: purl.name().to_owned(), version: version.to_owned(), digest, location, repository };
    let lengths = [
        ("name", artifact.name.len()),
        ("version", artifact.version.len()),
        ("location", artifact.location.len()),
        ("repository", artifact.repository.len()),
    ];
    match lengths.into_iter().find(|(_, length)| *length > LONGEST) {
        Some((what, length)) => Err(Unreadable::TooLong { what, length }),
        None => Ok(artifact),
    }
}

fn first<const N: usize>(values: [&str; N]) -> &str {
    values.into_iter().find(|value| !value.is_empty()).unwrap_or("")
}

fn digest(text: &str) -> Result<String, Unreadable> {
    if text.is_empty() {
        return Ok(String::new());
    }
    match text.strip_prefix(SHA256) {
        Some(hex) if hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Ok(text.to_ascii_lowercase())
        }
        _ => Err(Unreadable::Digest(shorten(text))),
    }
}

fn without_scheme(repository: &str) -> &str {
    repository.strip_prefix("https://").or_else(|| repository.strip_prefix("http://")).unwrap_or(repository)
}

pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
