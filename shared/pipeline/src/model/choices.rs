//! Values that are one of a few words.

use crate::decode::{Decode, Reader};
use crate::diagnostic::{Code, Diagnostic};
use crate::nearest;
use crate::yaml::{Node, Shape};

/// Finds a word among the allowed ones, or reports the nearest.
pub(super) fn word<T: Copy>(node: &Node, reader: &mut Reader, what: &str, allowed: &[(&str, T)]) -> Option<T> {
    let names = || allowed.iter().map(|(name, _)| *name);
    if matches!(node.shape, Shape::List(_) | Shape::Map(_) | Shape::Null) {
        return reader.mismatch(node, &format!("{what}: {}", names().collect::<Vec<_>>().join(", ")));
    }
    let found = allowed.iter().find(|(name, _)| *name == node.written).map(|(_, value)| *value);
    if found.is_none() {
        let message = format!("`{}` is not {what}", super::scalar::shortened(&node.written));
        let all = names().collect::<Vec<_>>().join(", ");
        let help = match nearest(&node.written, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("expected one of {all}"),
        };
        reader.report(Diagnostic::new(Code::BadValue, &node.place, message).help(help));
    }
    found
}

macro_rules! choice {
    (
        $what:literal;
        $(#[$meta:meta])*
        pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)* }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, schemars::JsonSchema)]
        pub enum $name { $($(#[$variant_meta])* #[schemars(rename = $word)] $variant,)* }

        impl $name {
            /// As it is written.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl Decode for $name {
            fn decode(node: &Node, reader: &mut Reader) -> Option<Self> {
                word(node, reader, $what, &[$(($word, Self::$variant)),*])
            }
        }
    };
}
pub(super) use choice;

choice! {
    "a type of environment";
    /// How careful to be: for people, who see it wherever the environment is shown.
    pub enum EnvironmentType {
        /// Where things are tried out.
        Development = "development",
        /// Where things are tested.
        Test = "test",
        /// Like production.
        Staging = "staging",
        /// What users see.
        Production = "production",
    }
}

choice! {
    "a way to go on without the executor";
    /// What happens when the executor of a script vanishes in the middle of it.
    pub enum OnCrash {
        /// The script is run again: it has to be safe to repeat.
        Repeat = "repeat",
        /// The step fails with `executor-lost`.
        Fail = "fail",
    }
}

choice! {
    "a platform";
    /// What runs services.
    pub enum PlatformKind {
        /// Processes on machines, behind a router.
        Vm = "vm",
    }
}

choice! {
    "a transport";
    /// How hosts are reached.
    pub enum TransportKind {
        /// This machine: each host is a directory below `root`.
        Local = "local",
    }
}
