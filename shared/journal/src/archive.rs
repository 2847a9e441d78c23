//! Final states of finished aggregates (rule 19).
//!
//! A finished aggregate stays in memory in the compact form of its checkpoint until the next checkpoint of the
//! partition. Then all of them are written together as one compressed object, a *segment*, so that a run costs a
//! fraction of a disk sync and not one of its own. Which segment holds an id is found by the first eight bytes of the
//! id's SHA-256: about 30 bytes of memory for each aggregate that ever finished in the partition, and a new id, the
//! usual case, costs one look into a map. Two ids with the same eight bytes only cost a needless read.

use std::{
    collections::{BTreeMap, HashMap},
    io::{Read as _, Write as _},
    sync::Arc,
};

use async_nats::jetstream::object_store::{GetErrorKind, ObjectMetadata, ObjectStore};
use cdflow_protocol::v1::{FinishedSegment, FinishedStates, Stored};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use crate::{Error, population::Finished};

/// Which segment holds the final state of an id.
#[derive(Debug, Default)]
pub(crate) struct ArchiveIndex {
    segments: Vec<Arc<FinishedSegment>>,
    by_hash: HashMap<u64, u32>,
}

impl ArchiveIndex {
    /// Name of the object that may hold this id, the newest if several do.
    pub(crate) fn find(&self, id: &str) -> Option<&str> {
        let segment = *self.by_hash.get(&id_hash(id))?;
        self.segments.get(segment as usize).map(|segment| segment.object.as_str())
    }

    pub(crate) fn push(&mut self, segment: FinishedSegment) {
        let number = u32::try_from(self.segments.len()).unwrap_or(u32::MAX);
        for &hash in &segment.id_hashes {
            self.by_hash.insert(hash, number);
        }
        self.segments.push(Arc::new(segment));
    }

    /// The segments, oldest first; cheap.
    pub(crate) fn segments(&self) -> Vec<Arc<FinishedSegment>> {
        self.segments.clone()
    }
}

/// Key of the index.
pub(crate) fn id_hash(id: &str) -> u64 {
    let digest = Sha256::digest(id.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}

/// Content of a segment. Slow: not for the partition's own task.
pub(crate) fn encode_segment(states: &BTreeMap<String, Finished>) -> Vec<u8> {
    let aggregates = states
        .iter()
        .map(|(id, finished)| Stored {
            aggregate_id: id.clone(),
            state: finished.state.to_vec(),
            traceparent: finished.traceparent.clone(),
        })
        .collect();
    compress(&FinishedStates { aggregates }.encode_to_vec())
}

/// The final state of one id, if this segment has it.
pub(crate) async fn load(store: &ObjectStore, object: &str, id: &str) -> Result<Option<Finished>, Error> {
    let Some(bytes) = get_object(store, object).await? else {
        return Err(Error::request(format!("read the final states in {object}"), "the object is gone"));
    };
    let states = decompress(&bytes)
        .and_then(|bytes| FinishedStates::decode(bytes.as_slice()).map_err(|error| error.to_string()))
        .map_err(|reason| Error::request(format!("read the final states in {object}"), reason))?;
    Ok(states
        .aggregates
        .into_iter()
        .find(|stored| stored.aggregate_id == id)
        .map(|stored| Finished { state: stored.state.into(), traceparent: stored.traceparent }))
}

pub(crate) async fn put_object(store: &ObjectStore, name: &str, content: Vec<u8>) -> Result<(), Error> {
    // Every chunk is a message and costs a disk sync: few large ones.
    let metadata = ObjectMetadata { name: name.to_owned(), chunk_size: Some(512 << 10), ..ObjectMetadata::default() };
    store
        .put(metadata, &mut content.as_slice())
        .await
        .map_err(|error| Error::request(format!("write object {name}"), error))?;
    Ok(())
}

pub(crate) async fn get_object(store: &ObjectStore, name: &str) -> Result<Option<Vec<u8>>, Error> {
    let failed = |error: String| Error::request(format!("read object {name}"), error);
    let read = async {
        let mut object = match store.get(name).await {
            Ok(object) => object,
            Err(error) if error.kind() == GetErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.to_string())),
        };
        let mut content = Vec::with_capacity(object.info().size);
        object.read_to_end(&mut content).await.map_err(|error| failed(error.to_string()))?;
        Ok(Some(content))
    };
    // The client reads objects with an ordered consumer, which stays silent for long after a restart of the server.
    tokio::time::timeout(std::time::Duration::from_secs(30), read)
        .await
        .unwrap_or_else(|_| Err(failed("no answer within 30 s".into())))
}

pub(crate) fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    // Writing to a vector does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

pub(crate) fn decompress(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut content).map_err(|error| format!("it is damaged: {error}"))?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_segment_of_an_id_counts() {
        let mut index = ArchiveIndex::default();
        let segment = |object: &str, ids: &[&str]| FinishedSegment {
            object: object.into(),
            id_hashes: ids.iter().map(|id| id_hash(id)).collect(),
        };
        index.push(segment("first", &["a", "b"]));
        index.push(segment("second", &["b"]));
        assert_eq!(index.find("a"), Some("first"));
        assert_eq!(index.find("b"), Some("second"));
        assert_eq!(index.find("c"), None);
    }

    #[test]
    fn compressed_states_come_back_and_damage_is_noticed() {
        let states: BTreeMap<_, _> = (0..50)
            .map(|i| (format!("run-{i}"), Finished { state: vec![7; 500].into(), traceparent: String::new() }))
            .collect();
        let mut bytes = encode_segment(&states);
        assert!(bytes.len() < 50 * 500 / 4);
        let decoded = FinishedStates::decode(decompress(&bytes).expect("whole").as_slice()).expect("states");
        assert_eq!(decoded.aggregates.len(), 50);
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        assert!(decompress(&bytes).is_err());
    }
}
