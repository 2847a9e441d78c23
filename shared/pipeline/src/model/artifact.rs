//! What is released.

use schemars::json_schema;

use super::{ArchiveLocation, Text};
use crate::decode::{Decode, Reader, fields};
use crate::diagnostic::{Code, Diagnostic};
use crate::source::At;
use crate::yaml::Node;

/// What of a service is released.
#[derive(Debug, Clone)]
pub enum Artifact {
    /// A container image, without its tag.
    Image(At<Text>),
    /// An archive to fetch.
    Archive(At<ArchiveLocation>),
}

fields! {
    "an artifact";
    /// What of a service is released: one of the two.
    struct ArtifactFields {
        /// A container image, without its tag: `registry.example.com/shop/storefront`.
        pub image: Option<At<Text>>,
        /// An archive to fetch, `https://…/storefront-{version}.tar.gz` or `file:…`.
        pub archive: Option<At<ArchiveLocation>>,
    }
}

impl Decode for Artifact {
    fn decode(node: &Node, reader: &mut Reader) -> Option<Self> {
        let before = reader.found.len();
        let fields = ArtifactFields::decode(node, reader)?;
        match (fields.image, fields.archive) {
            (Some(image), None) => Some(Self::Image(image)),
            (None, Some(archive)) => Some(Self::Archive(archive)),
            (Some(_), Some(archive)) => {
                let error = Diagnostic::new(Code::Conflict, &archive.place, "an artifact is an image or an archive");
                reader.report(error.help("remove one of the two"));
                None
            }
            (None, None) => {
                // A misspelled field has been reported already.
                if reader.found.len() == before {
                    let error = Diagnostic::new(Code::MissingField, &node.place, "this artifact is nothing");
                    reader.report(error.help("expected `image:` or `archive:`"));
                }
                None
            }
        }
    }
}

impl schemars::JsonSchema for Artifact {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Artifact".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut schema = ArtifactFields::json_schema(generator);
        let exactly_one = json_schema!({ "oneOf": [{ "required": ["image"] }, { "required": ["archive"] }] });
        schema.insert("oneOf".into(), exactly_one.get("oneOf").cloned().unwrap_or_default());
        schema
    }
}
