//! Counts that are too small to hide in.

use serde::Serialize;

/// A count of people, or that it is too small to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Count {
    /// Null if suppressed.
    pub patients: Option<i64>,
    /// Below the threshold, or it would give away another count that is.
    pub suppressed: bool,
}

impl Count {
    const SUPPRESSED: Self = Self { patients: None, suppressed: true };

    fn told(patients: i64) -> Self {
        Self { patients: Some(patients), suppressed: false }
    }
}

/// Whether a count alone may be told.
pub(super) fn single(patients: i64, small_cell: i64) -> Count {
    if patients < small_cell { Count::SUPPRESSED } else { Count::told(patients) }
}

/// The parts of a whole that is told as well: what is left of it after all told parts must not give a small one away, so
/// larger parts are suppressed along with it until the rest is large enough and not of one part only.
pub(super) fn parts(parts: &[i64], small_cell: i64) -> Vec<Count> {
    let mut hidden: Vec<bool> = parts.iter().map(|part| *part < small_cell).collect();
    while let Some(next) = next_to_hide(parts, &hidden, small_cell) {
        hidden[next] = true;
    }
    parts.iter().zip(hidden).map(|(part, hidden)| if hidden { Count::SUPPRESSED } else { Count::told(*part) }).collect()
}

/// The smallest told part, as long as the hidden ones don't cover each other.
fn next_to_hide(parts: &[i64], hidden: &[bool], small_cell: i64) -> Option<usize> {
    let covered: Vec<i64> = parts.iter().zip(hidden).filter(|(_, hidden)| **hidden).map(|(part, _)| *part).collect();
    let enough = covered.is_empty() || (covered.len() > 1 && covered.iter().sum::<i64>() >= small_cell);
    let told = (0..parts.len()).filter(|index| !hidden[*index]);
    if enough { None } else { told.min_by_key(|index| parts[*index]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(counts: &[i64]) -> Vec<Option<i64>> {
        parts(counts, 5).into_iter().map(|count| count.patients).collect()
    }

    #[test]
    fn a_small_count_is_not_told() {
        assert_eq!(single(4, 5), Count { patients: None, suppressed: true });
        assert_eq!(single(5, 5), Count { patients: Some(5), suppressed: false });
        assert_eq!(single(0, 5), Count { patients: None, suppressed: true });
    }

    #[test]
    fn nothing_is_hidden_without_need() {
        assert_eq!(told(&[5, 6, 7]), [Some(5), Some(6), Some(7)]);
        assert_eq!(told(&[]), []);
    }

    #[test]
    fn the_rest_of_the_whole_gives_nothing_away() {
        // One hidden part would be the whole minus the others.
        assert_eq!(told(&[3, 10, 20]), [None, None, Some(20)]);
        // Two hidden parts that are less than the threshold together.
        assert_eq!(told(&[1, 2, 10, 20]), [None, None, None, Some(20)]);
        assert_eq!(told(&[4, 4, 10]), [None, None, Some(10)]);
    }
}
