//! From YAML nodes to the types of the language, going on after errors so that all of them are found.

use std::collections::BTreeSet;

use crate::diagnostic::{Code, Diagnostic};
use crate::nearest;
use crate::source::{At, Place};
use crate::yaml::{Key, Node, Shape};

/// Something that can be read from a node.
pub(crate) trait Decode: Sized {
    /// Reads it. `None` if that is not possible; the reason is then in `reader`.
    fn decode(node: &Node, reader: &mut Reader) -> Option<Self>;

    /// What stands for a member that is not there; `None` if it has to be there.
    fn absent() -> Option<Self> {
        None
    }
}

/// Collects what is wrong.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pub(crate) found: Vec<Diagnostic>,
}

impl Reader {
    pub(crate) fn report(&mut self, diagnostic: Diagnostic) {
        self.found.push(diagnostic);
    }

    /// "Expected …, found …".
    pub(crate) fn mismatch<T>(&mut self, node: &Node, expected: &str) -> Option<T> {
        let message = format!("expected {expected}, found {}", node.shape.describe());
        self.report(Diagnostic::new(Code::WrongType, &node.place, message));
        None
    }

    /// The members of a map that may have the given ones. Others are reported, `later` ones as such.
    pub(crate) fn members<'n>(
        &mut self,
        node: &'n Node,
        what: &'static str,
        fields: &[String],
        later: &[(&str, &str)],
    ) -> Option<Members<'n>> {
        let Shape::Map(entries) = &node.shape else {
            return self.mismatch(node, &format!("{what}: a map with {}", fields.join(", ")));
        };
        self.report_duplicates(entries);
        for (key, _) in entries {
            if fields.contains(&key.name) {
                continue;
            }
            if let Some((name, why)) = later.iter().find(|(name, _)| *name == key.name) {
                let message = format!("`{name}` is not available in this release");
                self.report(Diagnostic::new(Code::NotInThisRelease, &key.place, message).help(*why));
                continue;
            }
            let message = format!("{what} has no field `{}`", key.name);
            let help = match nearest(&key.name, fields.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("expected one of {}", fields.join(", ")),
            };
            self.report(Diagnostic::new(Code::UnknownField, &key.place, message).help(help));
        }
        Some(Members { what, entries, place: &node.place })
    }

    pub(crate) fn report_duplicates(&mut self, entries: &[(Key, Node)]) {
        let mut seen = BTreeSet::new();
        for (key, _) in entries {
            if !seen.insert(&key.name) {
                let message = format!("`{}` is there twice", key.name);
                self.report(Diagnostic::new(Code::Duplicate, &key.place, message).help("remove one of the two"));
            }
        }
    }
}

/// The members of a map.
pub(crate) struct Members<'n> {
    what: &'static str,
    entries: &'n [(Key, Node)],
    place: &'n Place,
}

impl Members<'_> {
    /// Reads a member.
    pub(crate) fn take<T: Decode>(&self, field: &str, reader: &mut Reader) -> Option<T> {
        match self.entries.iter().find(|(key, _)| key.name == field) {
            Some((_, node)) => T::decode(node, reader),
            None => T::absent().or_else(|| {
                let message = format!("{} needs `{field}`", self.what);
                let help = format!("add `{field}:` here");
                reader.report(Diagnostic::new(Code::MissingField, self.place, message).help(help));
                None
            }),
        }
    }
}

/// How a field is spelled in YAML: `max_error_rate` is `max-error-rate`, `r#if` is `if`.
pub(crate) fn spelled(field: &str) -> String {
    field.trim_start_matches("r#").replace('_', "-")
}

/// Defines a struct of the language once: the type, its JSON Schema and how it is read.
macro_rules! fields {
    (
        $what:literal;
        $(#[$meta:meta])*
        $vis:vis struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)* }
        $(later { $($later:literal: $why:expr,)* })?
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, schemars::JsonSchema)]
        #[schemars(rename_all = "kebab-case", deny_unknown_fields)]
        $vis struct $name { $($(#[$field_meta])* pub $field: $type,)* }

        impl crate::decode::Decode for $name {
            fn decode(node: &crate::yaml::Node, reader: &mut crate::decode::Reader) -> Option<Self> {
                let names = [$(crate::decode::spelled(stringify!($field))),*];
                let members = reader.members(node, $what, &names, &[$($(($later, $why)),*)?])?;
                // All are read before any is missed, so that every error is found.
                $(let $field = members.take::<$type>(&crate::decode::spelled(stringify!($field)), reader);)*
                Some(Self { $($field: $field?,)* })
            }
        }
    };
}
pub(crate) use fields;

impl<T: Decode> Decode for Option<T> {
    fn decode(node: &Node, reader: &mut Reader) -> Option<Self> {
        T::decode(node, reader).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Node, reader: &mut Reader) -> Option<Self> {
        let Shape::List(items) = &node.shape else {
            return reader.mismatch(node, "a list");
        };
        let read: Vec<Option<T>> = items.iter().map(|item| T::decode(item, reader)).collect();
        read.into_iter().collect()
    }

    fn absent() -> Option<Self> {
        Some(Vec::new())
    }
}

impl<T: Decode> Decode for At<T> {
    fn decode(node: &Node, reader: &mut Reader) -> Option<Self> {
        T::decode(node, reader).map(|value| Self { value, place: node.place.clone() })
    }
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}

/// A map from names to values, in the order it is written.
#[derive(Debug, Clone)]
pub struct Entries<K, V>(pub(crate) Vec<(At<K>, V)>);

impl<K, V> Entries<K, V> {
    /// In the order they are written.
    pub fn iter(&self) -> impl Iterator<Item = (&At<K>, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }
}

impl<K, V> Default for Entries<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Decode, V: Decode> Decode for Entries<K, V> {
    fn decode(node: &Node, reader: &mut Reader) -> Option<Self> {
        let Shape::Map(entries) = &node.shape else {
            return reader.mismatch(node, "a map");
        };
        reader.report_duplicates(entries);
        let mut read = Vec::new();
        let mut whole = true;
        for (key, node) in entries {
            let name =
                Node { shape: Shape::Text(key.name.clone()), place: key.place.clone(), written: key.name.clone() };
            let name = At::<K>::decode(&name, reader);
            match (name, V::decode(node, reader)) {
                (Some(name), Some(value)) => read.push((name, value)),
                _ => whole = false,
            }
        }
        whole.then_some(Self(read))
    }

    fn absent() -> Option<Self> {
        Some(Self(Vec::new()))
    }
}

impl<K, V: schemars::JsonSchema> schemars::JsonSchema for Entries<K, V> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("MapOf{}", V::schema_name()).into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<V>() })
    }
}
