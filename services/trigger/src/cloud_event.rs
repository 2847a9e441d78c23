//! CloudEvents 1.0 as they come: structured (the body is the whole event in JSON) or binary (attributes in `ce-*`
//! headers, the body is the data). <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md>

use cloudevents::{AttributesReader as _, Data, Event, EventBuilder as _, EventBuilderV10};
use percent_encoding::percent_decode_str;

/// Longest `source`, `id` or `type` in bytes: they are kept for weeks and shown on pages.
const LONGEST_ATTRIBUTE: usize = 512;
/// Prefix of attributes in headers.
const PREFIX: &str = "ce-";
/// Media type of structured events, without `+json`.
const STRUCTURED: &str = "application/cloudevents";

/// A message that may be a CloudEvent: what HTTP requests and NATS messages have in common.
#[derive(Debug, Clone, Default)]
pub struct Parts<'a> {
    content_type: Option<String>,
    /// Names without prefix in lower case, values as sent.
    attributes: Vec<(String, String)>,
    body: &'a [u8],
}

/// Why a message is no CloudEvent that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// More than one event.
    #[error("several events at once (`application/cloudevents-batch`) are not taken: send each alone")]
    Batch,
    /// Structured, and not what the format says.
    #[error(
        "the body is no CloudEvent 1.0 in JSON: {0}. Expected an object with `specversion`, `id`, `source` and `type`"
    )]
    Structured(String),
    /// Binary, and not what the format says.
    #[error("the `ce-*` headers make no CloudEvent 1.0: {0}. Expected ce-specversion, ce-id, ce-source and ce-type")]
    Binary(String),
    /// An attribute that cannot be kept.
    #[error("the attribute `{name}` {problem}")]
    Attribute {
        /// Its name.
        name: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl<'a> Parts<'a> {
    /// From headers, whatever their case, and a body.
    pub fn new<'h>(headers: impl IntoIterator<Item = (&'h str, &'h str)>, body: &'a [u8]) -> Self {
        let mut parts = Self { body, ..Self::default() };
        for (name, value) in headers {
            let name = name.to_ascii_lowercase();
            if name == "content-type" {
                parts.content_type = Some(value.trim().to_ascii_lowercase());
            } else if let Some(attribute) = name.strip_prefix(PREFIX) {
                parts.attributes.push((attribute.to_owned(), value.to_owned()));
            }
        }
        parts
    }

    /// Whether headers say that this is a CloudEvent, in either mode.
    pub fn claims_to_be_an_event(&self) -> bool {
        self.is_structured() || self.is_binary()
    }

    fn is_structured(&self) -> bool {
        self.content_type.as_deref().is_some_and(|kind| kind.starts_with(STRUCTURED))
    }

    fn is_binary(&self) -> bool {
        !self.is_structured() && self.attributes.iter().any(|(name, _)| name == "specversion")
    }

    /// The event. A message without headers is taken for a structured one.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn event(&self) -> Result<Event, Malformed> {
        if self.content_type.as_deref().is_some_and(|kind| kind.starts_with("application/cloudevents-batch")) {
            return Err(Malformed::Batch);
        }
        let event = if self.is_binary() { self.binary()? } else { self.structured()? };
        for (name, value) in [("id", event.id()), ("source", event.source().as_str()), ("type", event.ty())] {
            check_attribute(name, value)?;
        }
        Ok(event)
    }

    fn structured(&self) -> Result<Event, Malformed> {
        serde_json::from_slice(self.body).map_err(|error| Malformed::Structured(error.to_string()))
    }

    fn binary(&self) -> Result<Event, Malformed> {
        let mut builder = EventBuilderV10::new();
        for (name, value) in &self.attributes {
            let value = percent_decode_str(value)
                .decode_utf8()
                .map_err(|_| Malformed::Binary(format!("ce-{name} is not UTF-8")))?
                .into_owned();
            builder = match name.as_str() {
                "specversion" if value == "1.0" => builder,
                "specversion" => return Err(Malformed::Binary(format!("ce-specversion is {value:?}, not \"1.0\""))),
                "id" => builder.id(value),
                "source" => builder.source(value),
                "type" => builder.ty(value),
                "subject" => builder.subject(value),
                "time" => builder.time(value),
                // Of no use here, and a schema that is no URL is no reason to turn an event away.
                "dataschema" => builder,
                extension => builder.extension(extension, value),
            };
        }
        if !self.body.is_empty() {
            let kind = self.content_type.as_deref().unwrap_or("application/json");
            let data =
                if kind.starts_with("application/json") || kind.split(';').next().unwrap_or("").ends_with("+json") {
                    let json = serde_json::from_slice(self.body)
                        .map_err(|error| Malformed::Binary(format!("the data is no JSON: {error}")))?;
                    Data::Json(json)
                } else {
                    Data::Binary(self.body.to_vec())
                };
            builder = builder.data(kind, data);
        }
        builder.build().map_err(|error| Malformed::Binary(error.to_string()))
    }
}

fn check_attribute(name: &'static str, value: &str) -> Result<(), Malformed> {
    let problem = if value.trim().is_empty() {
        "is empty".to_owned()
    } else if value.len() > LONGEST_ATTRIBUTE {
        format!("has {} bytes, and at most {LONGEST_ATTRIBUTE} are taken", value.len())
    } else if value.chars().any(char::is_control) {
        "has control characters".to_owned()
    } else {
        return Ok(());
    };
    Err(Malformed::Attribute { name, problem })
}

/// W3C trace context of an event (CloudEvents' distributed tracing extension), if it carries one of the right form.
pub fn traceparent(event: &Event) -> String {
    let value = event.extension("traceparent").map(ToString::to_string).unwrap_or_default();
    if is_traceparent(&value) { value } else { String::new() }
}

/// Whether a text has the form of a `traceparent`: <https://www.w3.org/TR/trace-context/#traceparent-header>.
pub(crate) fn is_traceparent(value: &str) -> bool {
    let parts: Vec<_> = value.split('-').collect();
    parts.len() == 4
        && parts.iter().zip([2, 32, 16, 2]).all(|(part, length)| {
            part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
}

/// The event's data as JSON; `None` when it has none or of another kind.
pub fn json_data(event: &Event) -> Option<serde_json::Value> {
    match event.data()? {
        Data::Json(value) => Some(value.clone()),
        Data::String(text) => serde_json::from_str(text).ok(),
        Data::Binary(bytes) => serde_json::from_slice(bytes).ok(),
    }
}
