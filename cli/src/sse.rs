//! Server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use anyhow::Result;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: String,
}

/// Cuts a body into events. Comments (keep-alives) and fields other than `event` and `data` are passed over.
pub(crate) fn events(chunks: impl Stream<Item = Result<Bytes>>) -> impl Stream<Item = Result<Event>> {
    let mut parser = Parser::default();
    chunks.flat_map(move |chunk| {
        let events = match chunk {
            Ok(bytes) => parser.push(&bytes).into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        };
        futures::stream::iter(events)
    })
}

#[derive(Default)]
struct Parser {
    line: Vec<u8>,
    event: Event,
}

impl Parser {
    fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut complete = Vec::new();
        for &byte in bytes {
            if byte != b'\n' {
                self.line.push(byte);
                continue;
            }
            let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).trim_end_matches('\r').to_owned();
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if !event.name.is_empty() || !event.data.is_empty() {
                    complete.push(event);
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut self.event.name),
                "data" if self.event.data.is_empty() => value.clone_into(&mut self.event.data),
                "data" => {
                    self.event.data.push('\n');
                    self.event.data.push_str(value);
                }
                _ => {}
            }
        }
        complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_may_be_cut_anywhere() {
        let body = ": hello\n\nevent: run\r\ndata: {\"a\":\ndata: 1}\n\nevent: end\ndata:\n\n";
        for cut in 0..body.len() {
            let mut parser = Parser::default();
            let mut events = parser.push(&body.as_bytes()[..cut]);
            events.extend(parser.push(&body.as_bytes()[cut..]));
            let expected = [
                Event { name: "run".into(), data: "{\"a\":\n1}".into() },
                Event { name: "end".into(), data: String::new() },
            ];
            assert_eq!(events, expected, "cut at {cut}");
        }
    }
}
