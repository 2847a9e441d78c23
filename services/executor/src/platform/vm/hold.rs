//! Holding a target: nobody else changes it, and nobody older ever will.
//!
//! Each host directory of a service, and each backend of a router, has a lock and the highest fence that it has seen. A
//! verb takes all locks, in one order for everybody, refuses to go on where a higher fence is found, writes its own,
//! and keeps the locks until it ends. So a former executor that wakes up in the middle either still holds the lock (and
//! nobody else has changed anything), or finds a higher fence. The locks of a killed executor are gone with it.

use std::time::{Duration, Instant};

use cdflow_protocol::v1::Fence;

use super::{Vm, local::Local, record::FenceRecord, transport::Transport};
use crate::{error::Error, platform::Attempt};

/// How long to wait for an executor that holds a lock.
const PATIENCE: Duration = Duration::from_secs(600);
/// After this a person is told why nothing happens.
const QUIET: Duration = Duration::from_secs(2);
const FENCE: &str = "fence.json";

/// The right to change a target.
pub(super) struct Hold<'a> {
    attempt: &'a Attempt,
    grounds: Vec<&'a Local>,
    _locks: Vec<<Local as Transport>::Lock>,
}

impl Vm {
    /// Takes all locks of the target under the attempt's fence.
    pub(super) async fn hold<'a>(&'a self, attempt: &'a Attempt) -> Result<Hold<'a>, Error> {
        let mut grounds: Vec<&Local> = self.hosts.iter().collect();
        grounds.sort_by_key(|ground| ground.name().to_owned());
        grounds.extend(self.router.iter().map(|router| &router.ground));
        let mut locks = Vec::with_capacity(grounds.len());
        for ground in &grounds {
            locks.push(self.wait_for_lock(ground, attempt).await?);
        }
        // Looked at everywhere before it is written anywhere.
        let mut behind = Vec::new();
        for ground in &grounds {
            let seen = read_fence(*ground).await?;
            if seen.refuses(&attempt.fence) {
                return Err(Error::fenced(&self.place(ground), &seen, &attempt.fence));
            }
            if seen < attempt.fence {
                behind.push(*ground);
            }
        }
        for ground in behind {
            write_fence(ground, &attempt.fence).await?;
        }
        let hold = Hold { attempt, grounds, _locks: locks };
        hold.check().await?;
        Ok(hold)
    }

    async fn wait_for_lock(&self, ground: &Local, attempt: &Attempt) -> Result<<Local as Transport>::Lock, Error> {
        let begun = Instant::now();
        let mut told = false;
        loop {
            if let Some(lock) = ground.try_lock().await? {
                return Ok(lock);
            }
            let waited = begun.elapsed();
            if waited > PATIENCE {
                return Err(Error::Busy { target: self.place(ground), seconds: waited.as_secs() });
            }
            if waited > QUIET && !told {
                told = true;
                attempt.log.say(format!("waiting: another executor is changing {}", self.place(ground)));
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    fn place(&self, ground: &Local) -> String {
        format!("{} on {}", self.service, ground.name())
    }
}

impl Hold<'_> {
    /// Whether the next change may be made. Asked before each.
    pub(super) async fn check(&self) -> Result<(), Error> {
        if !(self.attempt.may_change)() {
            return Err(Error::Stopped);
        }
        for ground in &self.grounds {
            let seen = read_fence(*ground).await?;
            if seen != self.attempt.fence {
                return Err(Error::fenced(ground.name(), &seen, &self.attempt.fence));
            }
        }
        Ok(())
    }

    /// Tells this attempt from all others, as a part of a file name.
    pub(super) fn name(&self) -> String {
        let Fence { incarnation, sequence, delivery } = self.attempt.fence;
        format!("{incarnation}-{sequence}-{delivery}")
    }

    pub(super) fn say(&self, text: impl AsRef<str>) {
        self.attempt.log.say(text);
    }
}

async fn read_fence(ground: &impl Transport) -> Result<Fence, Error> {
    let Some(content) = ground.read(FENCE).await? else { return Ok(Fence::default()) };
    let FenceRecord { incarnation, sequence, delivery } = serde_json::from_slice(&content).map_err(|e| {
        Error::host(format!("{} is damaged; remove it when no executor is at work", ground.absolute(FENCE)), e)
    })?;
    Ok(Fence { incarnation, sequence, delivery })
}

async fn write_fence(ground: &impl Transport, fence: &Fence) -> Result<(), Error> {
    let Fence { incarnation, sequence, delivery } = *fence;
    let record = FenceRecord { incarnation, sequence, delivery };
    let content = serde_json::to_vec(&record).map_err(|e| Error::host("write a fence", e))?;
    ground.write(FENCE, &content).await
}
