//! How full SIGNALS is, for input from outside.

use std::time::Duration;

use cdflow_protocol::streams;
use tokio::{sync::Mutex, time::Instant};

use crate::{Bus, Error};

/// Input from outside is refused from here on, in percent of `max_bytes`: the rest is for what services tell each other
/// to finish what is there already.
const FOR_OUTSIDE: u64 = 80;
/// How long an answer of the server counts.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What was seen last.
#[derive(Debug, Default)]
pub(crate) struct Room {
    seen: Mutex<Option<(Instant, bool)>>,
}

impl Bus {
    /// Whether SIGNALS takes input from outside; asks the server at most every two seconds.
    pub(crate) async fn has_room_for_outside(&self) -> Result<bool, Error> {
        let mut seen = self.room().seen.lock().await;
        if let Some((at, room)) = *seen
            && at.elapsed() < LOOK_EVERY
        {
            return Ok(room);
        }
        let stream = self.context().get_stream(streams::SIGNALS).await;
        let stream = stream.map_err(|error| Error::api("look how full SIGNALS is", error))?;
        let info = stream.cached_info();
        let room = leaves_room(info.state.bytes, info.config.max_bytes);
        *seen = Some((Instant::now(), room));
        Ok(room)
    }
}

fn leaves_room(bytes: u64, max_bytes: i64) -> bool {
    u64::try_from(max_bytes)
        .map_or(true, |most| most == 0 || bytes.saturating_mul(100) < most.saturating_mul(FOR_OUTSIDE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_fifths_are_for_outside_and_without_a_limit_everything() {
        assert!(leaves_room(799, 1_000));
        assert!(!leaves_room(800, 1_000));
        assert!(leaves_room(u64::MAX, -1));
    }
}
