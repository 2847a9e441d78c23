//! A set of documents that fit together.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bundle::{Bundle, StoredDocument};
use crate::check;
use crate::decode::{Decode, Reader};
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::model::{Environment, Group, HealthProfile, Infrastructure, Name, Person, Pipeline, Service};
use crate::nearest;
use crate::source::{At, Place, SourceFile};
use crate::yaml::{self, Document, Node, Shape};

/// Kinds of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// What is released.
    Service,
    /// Where, and how careful.
    Environment,
    /// The target.
    Infrastructure,
    /// What healthy means.
    HealthProfile,
    /// Somebody who can sign in.
    Person,
    /// People who approve together.
    Group,
    /// Stages, inputs, triggers.
    Pipeline,
}

impl Kind {
    /// Every kind there is.
    pub const ALL: [Self; 7] = [
        Self::Service,
        Self::Environment,
        Self::Infrastructure,
        Self::HealthProfile,
        Self::Person,
        Self::Group,
        Self::Pipeline,
    ];

    /// As it is written after `kind:`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Environment => "Environment",
            Self::Infrastructure => "Infrastructure",
            Self::HealthProfile => "HealthProfile",
            Self::Person => "Person",
            Self::Group => "Group",
            Self::Pipeline => "Pipeline",
        }
    }

    /// In the middle of a sentence.
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Environment => "environment",
            Self::Infrastructure => "infrastructure",
            Self::HealthProfile => "health profile",
            Self::Person => "person",
            Self::Group => "group",
            Self::Pipeline => "pipeline",
        }
    }
}

/// Documents that have been read and checked, against each other too: every name that one of them uses exists.
#[derive(Debug, Clone, Default)]
pub struct Configuration {
    /// By name.
    pub services: BTreeMap<String, Service>,
    /// By name.
    pub environments: BTreeMap<String, Environment>,
    /// By name.
    pub infrastructures: BTreeMap<String, Infrastructure>,
    /// By name.
    pub health_profiles: BTreeMap<String, HealthProfile>,
    /// By name.
    pub people: BTreeMap<String, Person>,
    /// By name.
    pub groups: BTreeMap<String, Group>,
    /// By name.
    pub pipelines: BTreeMap<String, Pipeline>,
    documents: Vec<StoredDocument>,
}

/// Names that documents have, also those that could not be read to the end.
pub(crate) type Declared = BTreeMap<(Kind, String), Place>;

impl Configuration {
    /// Reads and checks files.
    ///
    /// # Errors
    /// Everything that is wrong in any of them.
    pub fn parse(files: impl IntoIterator<Item = SourceFile>) -> Result<Self, Diagnostics> {
        let mut configuration = Self::default();
        let mut declared = Declared::new();
        let mut reader = Reader::default();
        for file in files {
            let source = Arc::new(file);
            let (documents, unreadable) = yaml::documents(&source, &mut reader.found);
            for document in documents {
                configuration.read(document, &source, &mut declared, &mut reader);
            }
            for document in unreadable {
                if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.as_str() == document.kind) {
                    declared.entry((kind, document.name)).or_insert(document.place);
                }
            }
        }
        check::check(&configuration, &declared, &mut reader.found);
        Diagnostics::or(reader.found, configuration)
    }

    /// What to keep of it.
    pub fn bundle(&self) -> Bundle {
        Bundle { documents: self.documents.clone() }
    }

    /// Members of a group; none if there is no such group.
    pub fn members(&self, group: &str) -> Vec<String> {
        let members = self.groups.get(group).map(|group| group.members.as_slice()).unwrap_or_default();
        members.iter().map(|member| member.as_str().to_owned()).collect()
    }

    fn read(&mut self, document: Document, source: &Arc<SourceFile>, declared: &mut Declared, reader: &mut Reader) {
        let Document { mut root, line, text } = document;
        let Some(kind) = kind_of(&root, reader) else {
            return;
        };
        if let Some(name) = name_of(&root) {
            let key = (kind, name.written.clone());
            if let Some(first) = declared.get(&key) {
                let message = format!("there is another {} `{}`", kind.in_words(), name.written);
                let help =
                    format!("the first is in {} line {}; give one of them another name", first.file(), first.line());
                reader.report(Diagnostic::new(Code::Duplicate, &name.place, message).help(help));
                return;
            }
            declared.insert(key, name.place.clone());
        }
        if let Shape::Map(entries) = &mut root.shape
            && let Some(at) = entries.iter().position(|(key, _)| key.name == "kind")
        {
            entries.remove(at);
        }
        let name = match kind {
            Kind::Service => keep(&mut self.services, &root, reader, |it| &it.name),
            Kind::Environment => keep(&mut self.environments, &root, reader, |it| &it.name),
            Kind::Infrastructure => keep(&mut self.infrastructures, &root, reader, |it| &it.name),
            Kind::HealthProfile => keep(&mut self.health_profiles, &root, reader, |it| &it.name),
            Kind::Person => keep(&mut self.people, &root, reader, |it| &it.name),
            Kind::Group => keep(&mut self.groups, &root, reader, |it| &it.name),
            Kind::Pipeline => keep(&mut self.pipelines, &root, reader, |it| &it.name),
        };
        self.documents.extend(name.map(|name| StoredDocument {
            kind: kind.as_str().to_owned(),
            name,
            file: source.path.clone(),
            line,
            text,
        }));
    }
}

fn keep<T: Decode>(
    documents: &mut BTreeMap<String, T>,
    root: &Node,
    reader: &mut Reader,
    name: impl Fn(&T) -> &At<Name>,
) -> Option<String> {
    let document = T::decode(root, reader)?;
    let name = name(&document).as_str().to_owned();
    documents.insert(name.clone(), document);
    Some(name)
}

fn kind_of(root: &Node, reader: &mut Reader) -> Option<Kind> {
    let names = || Kind::ALL.iter().map(|kind| kind.as_str());
    let all = || names().collect::<Vec<_>>().join(", ");
    let Shape::Map(entries) = &root.shape else {
        return reader.mismatch(root, "a document: a map with `kind`, `name` and what the kind has");
    };
    let Some((_, kind)) = entries.iter().find(|(key, _)| key.name == "kind") else {
        let misspelled = entries.iter().find(|(key, _)| nearest(&key.name, ["kind"]).is_some());
        let place = misspelled.map_or(&root.place, |(key, _)| &key.place);
        let error = Diagnostic::new(Code::MissingField, place, "this document does not say what `kind` it is");
        let help = match misspelled {
            Some(_) => "did you mean `kind`?".to_owned(),
            None => format!("add `kind:` with one of {}", all()),
        };
        reader.report(error.help(help));
        return None;
    };
    if matches!(kind.shape, Shape::Null | Shape::List(_) | Shape::Map(_)) {
        return reader.mismatch(kind, &format!("one of {}", all()));
    }
    let found = Kind::ALL.into_iter().find(|known| known.as_str() == kind.written);
    if found.is_none() {
        let message = format!("there is no kind `{}`", crate::model::scalar::shortened(&kind.written));
        let help = match nearest(&kind.written, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("expected one of {}", all()),
        };
        reader.report(Diagnostic::new(Code::UnknownKind, &kind.place, message).help(help));
    }
    found
}

fn name_of(root: &Node) -> Option<&Node> {
    match &root.shape {
        Shape::Map(entries) => entries.iter().find(|(key, _)| key.name == "name").map(|(_, node)| node),
        _ => None,
    }
}
