//! The clock of this machine.

use std::time::SystemTime;

use crate::UnixMillis;

/// The time now; 0 on a machine whose clock is before 1970.
pub fn wall_clock() -> UnixMillis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMillis::try_from(since.as_millis()).unwrap_or(UnixMillis::MAX)
}
