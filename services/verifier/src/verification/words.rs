//! Numbers as a person says them.

use cdflow_evidence::{Counts, Interval};

/// "1,204".
pub(crate) fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Two significant digits, without zeros at the end: "3.4 %", "0.5 %", "0.021 %", "12 %".
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent == 0.0 {
        return "0 %".into();
    }
    let magnitude = percent.abs().log10().floor();
    let decimals = (1.0 - magnitude).clamp(0.0, 6.0) as usize;
    format!("{} %", trimmed(format!("{percent:.decimals$}")))
}

/// "6.7", "11", "0.85", "120".
pub(crate) fn ratio(value: f64) -> String {
    if value.is_infinite() {
        return "infinite".into();
    }
    let decimals = if value >= 99.95 {
        0
    } else if value >= 1.0 {
        1
    } else {
        2
    };
    trimmed(format!("{value:.decimals$}"))
}

fn trimmed(text: String) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// "18 s", "2 min 5 s", "1 h 3 min".
pub(crate) fn duration(milliseconds: i64) -> String {
    let seconds = milliseconds.max(0) / 1_000;
    let pair = |large: i64, large_unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{large} {large_unit}") } else { format!("{large} {large_unit} {small} {small_unit}") }
    };
    if milliseconds < 1_000 {
        format!("{} ms", milliseconds.max(0))
    } else if seconds < 60 {
        format!("{seconds} s")
    } else if seconds < 3_600 {
        pair(seconds / 60, "min", seconds % 60, "s")
    } else {
        pair(seconds / 3_600, "h", seconds % 3_600 / 60, "min")
    }
}

/// "41 of 1,204".
pub(crate) fn failed(counts: Counts) -> String {
    format!("{} of {}", number(counts.events()), number(counts.exposure()))
}

/// " (3.4 %)", or nothing without failures.
pub(crate) fn in_brackets(counts: Counts) -> String {
    counts.rate().filter(|rate| *rate > 0.0).map(|rate| format!(" ({})", percent(rate))).unwrap_or_default()
}

/// "3.9 to 11.2", "3.9 or more", "at most 2.1", "anything".
pub(crate) fn interval(interval: Interval) -> String {
    match (interval.lower > 0.0, interval.upper.is_finite()) {
        (true, true) => format!("{} to {}", ratio(interval.lower), ratio(interval.upper)),
        (true, false) => format!("{} or more", ratio(interval.lower)),
        (false, true) => format!("at most {}", ratio(interval.upper)),
        (false, false) => "anything".into(),
    }
}

/// Log evidence as "1 in 4,200"; "none" where there is none.
pub(crate) fn one_in(log_evidence: f64) -> String {
    const MOST: f64 = 1e9;
    if log_evidence <= 0.0 {
        return "none".into();
    }
    let odds = log_evidence.exp();
    if odds >= MOST {
        "less than 1 in 1,000,000,000".into()
    } else if odds < 10.0 {
        format!("1 in {}", ratio(odds))
    } else {
        format!("1 in {}", number(odds.round() as u64))
    }
}

/// `100 (1 - alpha)` as "99 %".
pub(crate) fn confidence(alpha: f64) -> String {
    format!("{} %", trimmed(format!("{:.3}", 100.0 * (1.0 - alpha))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!([number(0), number(999), number(1_204), number(22_310_000)], ["0", "999", "1,204", "22,310,000"]);
        assert_eq!(
            [percent(0.034_05), percent(0.005), percent(0.000_21), percent(0.124), percent(1.0), percent(0.0)],
            ["3.4 %", "0.5 %", "0.021 %", "12 %", "100 %", "0 %"]
        );
        assert_eq!(
            [ratio(6.74), ratio(11.21), ratio(0.854), ratio(2.0), ratio(123.4)],
            ["6.7", "11.2", "0.85", "2", "123"]
        );
        assert_eq!(
            [duration(18_000), duration(125_000), duration(3_780_000), duration(600_000), duration(40)],
            ["18 s", "2 min 5 s", "1 h 3 min", "10 min", "40 ms"]
        );
        assert_eq!(
            [one_in(-3.0), one_in(1.0), one_in(8.4), one_in(800.0)],
            ["none", "1 in 2.7", "1 in 4,447", "less than 1 in 1,000,000,000"]
        );
        assert_eq!([confidence(0.01), confidence(0.05), confidence(0.001)], ["99 %", "95 %", "99.9 %"]);
    }
}
