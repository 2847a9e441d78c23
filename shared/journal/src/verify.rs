//! Walking the whole journal.

use std::collections::BTreeMap;

use cdflow_bus::Bus;
use cdflow_protocol::{AggregateKind, Partition, streams, subjects, v1::Commit};
use prost::Message as _;

use crate::{Error, Position, Positions, append::read_tail, checkpoint, history};

/// What a journal holds, and whether it is whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Each partition that has commits.
    pub partitions: Vec<PartitionReport>,
    /// Where the journal is not what it was; empty when it is whole.
    pub breaks: Vec<Break>,
}

impl Report {
    /// Whether nothing is missing and nothing was changed.
    pub fn is_whole(&self) -> bool {
        self.breaks.is_empty()
    }

    /// Commits in all partitions.
    pub fn commits(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.commits).sum()
    }
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionReport {
    /// Kind of its aggregates.
    pub kind: AggregateKind,
    /// Its number.
    pub partition: Partition,
    /// Commits stored.
    pub commits: u64,
    /// Events in them.
    pub events: u64,
    /// Signals refused in them.
    pub refused: u64,
    /// Stream sequence of the first; commits before it were trimmed if `trimmed`.
    pub first: u64,
    /// Whether there were commits before the first.
    pub trimmed: bool,
    /// The last commit.
    pub last: Position,
    /// Incarnation and epoch of the last commit.
    pub incarnation: u64,
    /// See `incarnation`.
    pub epoch: u64,
}

/// A place where the journal is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// Kind of the partition.
    pub kind: AggregateKind,
    /// Its number.
    pub partition: Partition,
    /// Stream sequence.
    pub sequence: u64,
    /// What was expected and what was found.
    pub reason: String,
}

/// Walks every chain from its first to its last commit; checkpoints are the witnesses of commits that a truncated stream
/// may have lost.
///
/// # Errors
/// [`Error::Request`] when the journal cannot be read. A damaged journal is no error: it is in the report.
pub async fn verify(bus: &Bus) -> Result<Report, Error> {
    verify_with(bus, &Positions::new()).await
}

/// As [`verify`], with further witnesses: positions that a projection or an archive has stored.
///
/// # Errors
/// As [`verify`].
pub async fn verify_with(bus: &Bus, witnesses: &Positions) -> Result<Report, Error> {
    let mut witnesses: BTreeMap<(AggregateKind, Partition), Vec<Witness>> = witnesses
        .iter()
        .map(|(key, position)| (*key, vec![Witness { position: position.clone(), who: "a projection" }]))
        .collect();
    add_checkpoints(bus, &mut witnesses).await?;
    let mut walk: BTreeMap<(AggregateKind, Partition), Walk> = BTreeMap::new();
    let client = bus.client();
    let mut from = 1;
    loop {
        let messages = history::read_from(&client, streams::JOURNAL, "cdflow.journal.*.*", from).await?;
        let Some(last) = messages.last().map(|message| message.sequence) else { break };
        for message in &messages {
            if let Some(key) = subjects::parse_partition(&message.subject) {
                let witnesses = witnesses.get(&key).map_or(&[][..], Vec::as_slice);
                walk.entry(key).or_insert_with(|| Walk::new(key)).step(message.sequence, &message.body, witnesses);
            }
        }
        from = last + 1;
    }
    let journal = bus
        .context()
        .get_stream_no_info(streams::JOURNAL)
        .await
        .map_err(|error| Error::request("open JOURNAL", error))?;
    let mut report = Report::default();
    for (key, witnesses) in witnesses {
        walk.entry(key).or_insert_with(|| Walk::new(key)).look_for_missing(&witnesses);
    }
    for ((kind, partition), walk) in walk {
        // A replica that is behind may have answered: the leader knows the last commit.
        let tail = read_tail(&journal, &subjects::journal(kind, partition)).await?;
        if let Some(tail) = tail
            && tail.sequence < walk.report.last.sequence
        {
            return Err(Error::request("verify the journal", "the leader is behind what was read: try again"));
        }
        report.breaks.extend(walk.breaks);
        if walk.report.commits > 0 {
            report.partitions.push(walk.report);
        }
    }
    Ok(report)
}

struct Witness {
    position: Position,
    who: &'static str,
}

async fn add_checkpoints(
    bus: &Bus,
    witnesses: &mut BTreeMap<(AggregateKind, Partition), Vec<Witness>>,
) -> Result<(), Error> {
    let installation = bus.read_installation().await?;
    let store = bus
        .context()
        .get_object_store(subjects::SNAPSHOTS_BUCKET)
        .await
        .map_err(|error| Error::request("open the store of checkpoints", error))?;
    for kind in AggregateKind::ALL {
        for partition in installation.partitions.all() {
            for found in checkpoint::find(&store, kind, partition).await? {
                // Older incarnations may hold what a restore has undone.
                if found.checkpoint.incarnation >= installation.incarnation {
                    let witness = Witness { position: found.position(), who: "a checkpoint" };
                    witnesses.entry((kind, partition)).or_default().push(witness);
                }
            }
        }
    }
    Ok(())
}

/// The chain of one partition, as far as it was walked.
struct Walk {
    report: PartitionReport,
    breaks: Vec<Break>,
}

impl Walk {
    fn new((kind, partition): (AggregateKind, Partition)) -> Self {
        let report = PartitionReport {
            kind,
            partition,
            commits: 0,
            events: 0,
            refused: 0,
            first: 0,
            trimmed: false,
            last: Position::start(),
            incarnation: 0,
            epoch: 0,
        };
        Self { report, breaks: Vec::new() }
    }

    fn step(&mut self, sequence: u64, body: &[u8], witnesses: &[Witness]) {
        let here = Position::of(sequence, body);
        match Commit::decode(body) {
            Ok(commit) => {
                if self.report.commits == 0 {
                    self.report.first = sequence;
                    self.report.trimmed = commit.previous_sequence != 0;
                } else if let Err(reason) = self.report.last.follow(sequence, body, &commit) {
                    self.note(sequence, reason);
                }
                if commit.epoch < self.report.epoch || commit.incarnation < self.report.incarnation {
                    self.note(sequence, "an older owner's commit comes after a newer owner's".into());
                }
                self.report.incarnation = commit.incarnation;
                self.report.epoch = commit.epoch;
                for entry in &commit.entries {
                    self.report.events += entry.events.len() as u64;
                    self.report.refused +=
                        entry.handled.iter().filter(|handled| handled.refusal.is_some()).count() as u64;
                }
            }
            Err(error) => self.note(sequence, format!("the commit cannot be decoded: {error}")),
        }
        for witness in witnesses.iter().filter(|witness| witness.position.sequence == sequence) {
            if witness.position != here {
                self.note(sequence, format!("{} has seen commit {}, stored is {here}", witness.who, witness.position));
            }
        }
        self.report.commits += 1;
        self.report.last = here;
    }

    /// Whoever has seen a later commit than the last one knows that the tail is gone.
    fn look_for_missing(&mut self, witnesses: &[Witness]) {
        let last = self.report.last.clone();
        for Witness { position, who } in witnesses.iter().filter(|witness| witness.position.sequence > last.sequence) {
            self.note(position.sequence, format!("{who} has seen commit {position}, the last one stored is {last}"));
        }
    }

    fn note(&mut self, sequence: u64, reason: String) {
        let (kind, partition) = (self.report.kind, self.report.partition);
        self.breaks.push(Break { kind, partition, sequence, reason });
    }
}
