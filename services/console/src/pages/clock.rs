//! Moments on pages: in UTC, as text that the script turns into the reader's own zone.

use cdflow_protocol::UnixMillis;
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

const SHOWN: &[BorrowedFormatItem<'_>] =
    format_description!("[day padding:none] [month repr:short] [hour]:[minute]:[second] UTC");
const MACHINE: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(pub(crate) UnixMillis);

impl Moment {
    fn format(self, format: &[BorrowedFormatItem<'_>]) -> String {
        OffsetDateTime::from_unix_timestamp(self.0.div_euclid(1_000))
            .ok()
            .and_then(|moment| moment.format(format).ok())
            .unwrap_or_else(|| format!("{} ms", self.0))
    }

    /// "23 Nov 14:03:22 UTC".
    pub(crate) fn shown(&self) -> String {
        self.format(SHOWN)
    }

    /// For `datetime=`.
    pub(crate) fn machine(&self) -> String {
        self.format(MACHINE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_readable_and_impossible_ones_are_no_panic() {
        assert_eq!(Moment(1_795_442_602_999).shown(), "23 Nov 14:03:22 UTC");
        assert_eq!(Moment(1_795_442_602_999).machine(), "2026-11-23T14:03:22Z");
        assert_eq!(Moment(i64::MAX).shown(), format!("{} ms", i64::MAX));
    }
}
