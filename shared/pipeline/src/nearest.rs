//! "Did you mean": the nearest valid name by edit distance.

/// The one of `candidates` that `wanted` is most likely a misspelling of, if any is near enough.
///
/// Near enough is a Damerau-Levenshtein distance of at most a third of the longer name, and at least one edit.
/// Upper and lower case, `-` and `_` count as the same.
///
/// ```
/// use cdflow_pipeline::nearest;
///
/// assert_eq!(nearest("evnt", ["inputs", "event"]), Some("event"));
/// assert_eq!(nearest("weather", ["inputs", "event"]), None);
/// ```
pub fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer is not a misspelling, and comparing costs the product of the lengths.
    const LONGEST: usize = 64;
    if wanted.is_empty() || wanted.len() > LONGEST {
        return None;
    }
    let plain = |name: &str| name.to_lowercase().replace('_', "-");
    let wanted = plain(wanted);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| {
            let other = plain(candidate);
            let distance = strsim::damerau_levenshtein(&wanted, &other);
            let longer = wanted.chars().count().max(other.chars().count());
            (distance, longer, candidate)
        })
        .filter(|(distance, longer, _)| *distance <= (longer / 3).max(1))
        .min_by_key(|(distance, _, _)| *distance)
        .map(|(_, _, candidate)| candidate)
}
