//! YAML as a tree that knows where everything is written.
//!
//! Errors of one document do not hide those of the next: a file is cut at its `---` lines first, which YAML allows
//! nowhere else at the start of a line.

use std::fmt;
use std::sync::Arc;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned};

use crate::diagnostic::{Code, Diagnostic};
use crate::source::{Place, SourceFile};

/// Longest file that is read.
const MAX_FILE_BYTES: usize = 1 << 20;
/// Longest part of a file that an error points at.
const MAX_MARKED_BYTES: usize = 80;

/// A node and where it is.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) shape: Shape,
    pub(crate) place: Place,
    /// As written, where an alias stands for it: what its anchor has.
    pub(crate) written: String,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    Null,
    Bool(bool),
    Integer(i64),
    /// Any other number; what it is worth is read from how it is written.
    Number,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// The name of a member.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) place: Place,
}

impl Shape {
    /// For "found …".
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) | Self::Number => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// A part of a file between two `---` lines.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) root: Node,
    /// Line of the file that `text` starts with, from 1.
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// Reads the documents of a file. Empty ones are left out.
pub(crate) fn documents(source: &Arc<SourceFile>, found: &mut Vec<Diagnostic>) -> (Vec<Document>, Vec<Unreadable>) {
    if source.text.len() > MAX_FILE_BYTES {
        let place = Place { source: Arc::clone(source), offset: 0, length: 0 };
        found.push(
            Diagnostic::new(Code::NotYaml, &place, format!("this file has {} bytes", source.text.len()))
                .help(format!("expected at most {MAX_FILE_BYTES}: split it into several files")),
        );
        return (Vec::new(), Vec::new());
    }
    let mut read = Vec::new();
    let mut unreadable = Vec::new();
    for piece in pieces(&source.text) {
        match document(source, &piece) {
            Ok(document) => read.extend(document),
            Err(diagnostic) => {
                unreadable.extend(Unreadable::of(&piece.text, &diagnostic));
                found.push(diagnostic);
            }
        }
    }
    (read, unreadable)
}

/// What a document that is not YAML says it is, so that what refers to it is not called wrong as well.
pub(crate) struct Unreadable {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) place: Place,
}

impl Unreadable {
    fn of(text: &str, diagnostic: &Diagnostic) -> Option<Self> {
        let value = |field: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(field))?;
            let value = line.split(" #").next().unwrap_or(line);
            Some(value.trim().trim_matches(['"', '\'']).to_owned())
        };
        Some(Self { kind: value("kind:")?, name: value("name:")?, place: diagnostic.place.clone()? })
    }
}

/// A document's text and where it starts.
struct Piece {
    text: String,
    offset: usize,
    line: usize,
}

fn pieces(text: &str) -> Vec<Piece> {
    let is_marker = |line: &str| {
        ["---", "..."].iter().any(|marker| {
            line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
        })
    };
    let (bom, text) = text.strip_prefix('\u{feff}').map_or((0, text), |rest| ('\u{feff}'.len_utf8(), rest));
    let mut found = vec![Piece { text: String::new(), offset: bom, line: 1 }];
    let mut offset = bom;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if is_marker(line) {
            found.push(Piece { text: format!("   {}", &line[3..]), offset, line: number + 1 });
        } else if let Some(last) = found.last_mut() {
            last.text.push_str(line);
        }
        offset += line.len();
    }
    // `%YAML 1.2` stands before the first `---`.
    let says_something = |line: &str| !line.trim().is_empty() && !line.starts_with(['#', '%']);
    found.retain(|piece| piece.text.lines().any(says_something));
    found
}

fn document(source: &Arc<SourceFile>, piece: &Piece) -> Result<Option<Document>, Diagnostic> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 24,
            max_nodes: 50_000,
            max_events: 200_000,
            max_documents: 1,
            max_aliases: 200,
            max_anchors: 200,
            max_merge_keys: 100,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
        // `on` and `no` are words, as in YAML 1.2.
        strict_booleans: true,
    };
    let options = {
        let mut options = options;
        options.alias_limits.max_total_replayed_events = 20_000;
        options.alias_limits.max_replay_stack_depth = 8;
        options
    };
    let root = serde_saphyr::from_str_with_options::<Option<Located>>(&piece.text, options).map_err(|error| {
        let mut place = place_of(source, piece, error.location().unwrap_or(Location::UNKNOWN));
        place.length = place.length.max(1);
        Diagnostic::new(Code::NotYaml, &place, format!("this is not YAML: {}", plainly(&error)))
            .help("expected a YAML document; check indentation, quotes and brackets around here")
    })?;
    let Some(root) = root else {
        return Ok(None);
    };
    let root = root.placed(source, piece);
    if matches!(root.shape, Shape::Null) {
        return Ok(None);
    }
    Ok(Some(Document { root, line: piece.line, text: piece.text.trim_end().to_owned() }))
}

/// The message without the place, which the diagnostic says itself.
fn plainly(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let first = text.lines().next().unwrap_or_default();
    let plain = first.split(" at line ").next().unwrap_or(first);
    let plain = plain.strip_prefix("error: ").unwrap_or(plain);
    plain.trim_end_matches([',', ':', ' ']).to_owned()
}

fn place_of(source: &Arc<SourceFile>, piece: &Piece, location: Location) -> Place {
    let span = location.span();
    let in_piece = span.byte_offset().and_then(|at| usize::try_from(at).ok()).unwrap_or_else(|| {
        // Errors of the scanner know line and column only.
        let line = usize::try_from(location.line()).unwrap_or(0).saturating_sub(1);
        let column = usize::try_from(location.column()).unwrap_or(0).saturating_sub(1);
        let start: usize = piece.text.split_inclusive('\n').take(line).map(str::len).sum();
        let rest = piece.text.get(start..).unwrap_or_default();
        start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at)
    });
    let offset = (piece.offset + in_piece).min(source.text.len());
    let length = span.byte_len().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    let mut end = (offset + length.min(MAX_MARKED_BYTES)).min(source.text.len());
    // A place is on one line: what follows is shown with it anyway.
    if let Some(newline) = source.text.get(offset..end).and_then(|text| text.find('\n')) {
        end = offset + newline;
    }
    while !source.text.is_char_boundary(end) {
        end -= 1;
    }
    Place { source: Arc::clone(source), offset, length: end.saturating_sub(offset) }
}

/// What the YAML reader gives: a node with its locations.
struct Located(Spanned<Content>);

enum Content {
    Null,
    Bool(bool),
    Integer(i64),
    Number,
    Text(String),
    List(Vec<Located>),
    Map(Vec<(Spanned<KeyText>, Located)>),
}

struct KeyText(String);

impl Located {
    fn placed(self, source: &Arc<SourceFile>, piece: &Piece) -> Node {
        let Spanned { value, referenced, defined } = self.0;
        let place = place_of(source, piece, referenced);
        let written = match &value {
            Content::Text(text) => text.clone(),
            _ => {
                let span = defined.span();
                let range = span.byte_offset().zip(span.byte_len()).and_then(|(offset, length)| {
                    let start = usize::try_from(offset).ok()?;
                    piece.text.get(start..start.checked_add(usize::try_from(length).ok()?)?)
                });
                range.unwrap_or_default().trim().to_owned()
            }
        };
        let shape = match value {
            Content::Null => Shape::Null,
            Content::Bool(b) => Shape::Bool(b),
            Content::Integer(n) => Shape::Integer(n),
            Content::Number => Shape::Number,
            Content::Text(text) => Shape::Text(text),
            Content::List(items) => Shape::List(items.into_iter().map(|item| item.placed(source, piece)).collect()),
            Content::Map(members) => Shape::Map(
                members
                    .into_iter()
                    .map(|(key, node)| {
                        let place = place_of(source, piece, key.referenced);
                        (Key { name: key.value.0, place }, node.placed(source, piece))
                    })
                    .collect(),
            ),
        };
        // Containers know only where they start.
        Node { shape, place, written }
    }
}

impl<'de> Deserialize<'de> for Located {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number, a boolean, a list or a map")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Integer(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Content, E> {
        Ok(i64::try_from(value).map_or(Content::Number, Content::Integer))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Content, E> {
        Ok(i64::try_from(value).map_or(Content::Number, Content::Integer))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Content, E> {
        Ok(i64::try_from(value).map_or(Content::Number, Content::Integer))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Content, E> {
        Ok(Content::Number)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Text(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Content, E> {
        Ok(Content::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Content::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Content, A::Error> {
        let mut map = Vec::new();
        while let Some(member) = members.next_entry()? {
            map.push(member);
        }
        Ok(Content::Map(map))
    }
}

impl<'de> Deserialize<'de> for KeyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // As written: `8080` and `true` are names like any other.
        String::deserialize(deserializer).map(Self)
    }
}
