//! Group commit: everything decided while the previous append is in flight goes into the next message.

use std::sync::Arc;

use async_nats::jetstream::message::Acker;
use bytes::{BufMut as _, Bytes, BytesMut};
use cdflow_protocol::v1::{Commit, Effect, Entry};
use prost::{Message as _, encoding};

use crate::Aggregate;

/// Number of the field `entries` in `Commit`.
const ENTRIES: u32 = 8;

/// Entries of a commit, encoded one by one as they are decided.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    bytes: BytesMut,
    count: u64,
}

/// One entry in the form in which it lies in a commit.
#[derive(Debug)]
pub(crate) struct EncodedEntry(Bytes);

impl EncodedEntry {
    pub(crate) fn new(entry: &Entry) -> Self {
        let mut bytes = BytesMut::with_capacity(entry.encoded_len() + 8);
        encoding::encode_key(ENTRIES, encoding::WireType::LengthDelimited, &mut bytes);
        encoding::encode_varint(entry.encoded_len() as u64, &mut bytes);
        // A `BytesMut` grows: there is no capacity to run out of.
        let _ = entry.encode(&mut bytes);
        Self(bytes.freeze())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Entries {
    pub(crate) fn push(&mut self, entry: &EncodedEntry) {
        self.bytes.put_slice(&entry.0);
        self.count += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The bytes of `header` (whose own entries must be empty) with these entries.
    pub(crate) fn close(&self, header: &Commit) -> Bytes {
        let mut bytes = BytesMut::with_capacity(header.encoded_len() + self.bytes.len());
        let _ = header.encode(&mut bytes);
        bytes.put_slice(&self.bytes);
        bytes.freeze()
    }
}

/// What a decision changed, for what follows once it is stored.
pub(crate) struct Decided<A: Aggregate> {
    pub(crate) aggregate_id: String,
    /// State after it.
    pub(crate) state: Arc<A>,
    pub(crate) events: Vec<A::Event>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) traceparent: String,
}

/// A signal that is kept for a person before its message is acknowledged.
#[derive(Debug)]
pub(crate) struct DeadLetter {
    pub(crate) id: String,
    pub(crate) traceparent: String,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) body: Bytes,
}

/// Decisions that are stored together or not at all.
pub(crate) struct Group<A: Aggregate> {
    pub(crate) entries: Entries,
    pub(crate) decided: Vec<Decided<A>>,
    /// Messages whose last signal is decided here.
    pub(crate) acks: Vec<Acker>,
    pub(crate) dead: Vec<DeadLetter>,
    pub(crate) signals: u64,
    /// With this group, everything that the former owner left up to this commit is sent or sent again.
    pub(crate) resent_through: Option<u64>,
}

impl<A: Aggregate> Default for Group<A> {
    fn default() -> Self {
        Self {
            entries: Entries::default(),
            decided: Vec::new(),
            acks: Vec::new(),
            dead: Vec::new(),
            signals: 0,
            resent_through: None,
        }
    }
}

impl<A: Aggregate> Group<A> {
    /// Whether an entry still fits; an empty group takes any.
    pub(crate) fn fits(&self, entry: &EncodedEntry, limit: usize) -> bool {
        self.entries.is_empty() || self.entries.len() + entry.len() <= limit
    }
}

#[cfg(test)]
mod tests {
    use cdflow_protocol::v1::{Handled, Refusal};
    use proptest::prelude::*;

    use super::*;

    fn entry() -> impl Strategy<Value = Entry> {
        (".{0,20}", prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..4), prop::option::of(".{0,9}"))
            .prop_map(|(aggregate_id, events, refused)| Entry {
                handled: vec![Handled {
                    signal_id: aggregate_id.clone(),
                    refusal: refused.map(|code| Refusal { code, message: String::new() }),
                }],
                aggregate_id,
                events,
                effects: Vec::new(),
            })
    }

    proptest! {
        #[test]
        fn entries_encoded_one_by_one_decode_as_one_commit(
            list in prop::collection::vec(entry(), 0..20),
            sequence in any::<u64>(),
            time_ms in any::<i64>(),
        ) {
            let header = Commit { previous_sequence: sequence, time_ms, min_reader: 1, ..Commit::default() };
            let mut entries = Entries::default();
            for entry in &list {
                entries.push(&EncodedEntry::new(entry));
            }
            let decoded = Commit::decode(entries.close(&header)).expect("a commit");
            prop_assert_eq!(decoded, Commit { entries: list, ..header });
        }
    }
}
