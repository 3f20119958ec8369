//! Where an append ended up, and the text form of it that callers carry to the query door.

use chrono::{DateTime, Utc};

/// What an accepted command gets back: the last position of each partition it touched, in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub positions: Vec<(i32, i64)>,
    pub recorded_at: DateTime<Utc>,
}

impl Receipt {
    /// The position token: `3-1042.7-88` says position 1042 of partition 3 and 88 of partition 7.
    pub fn token(&self) -> String {
        PositionToken::format(&self.positions)
    }
}

/// The text form of positions.
pub struct PositionToken;

/// A position token that does not read `partition-position[.partition-position…]`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a position token reads partition-position, several joined by dots, such as 3-1042.7-88")]
pub struct InvalidPositionToken;

impl PositionToken {
    /// More entries than any log has partitions are refused before they are read.
    const ENTRIES_MAX: usize = 1_024;

    /// Writes positions as a token.
    pub fn format(positions: &[(i32, i64)]) -> String {
        let parts: Vec<_> = positions.iter().map(|(partition, position)| format!("{partition}-{position}")).collect();
        parts.join(".")
    }

    /// Reads a token; the empty text is the token of a command that touched nothing.
    pub fn parse(text: &str) -> Result<Vec<(i32, i64)>, InvalidPositionToken> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        if text.split('.').count() > Self::ENTRIES_MAX {
            return Err(InvalidPositionToken);
        }
        text.split('.').map(parse_entry).collect()
    }
}

fn parse_entry(entry: &str) -> Result<(i32, i64), InvalidPositionToken> {
    let (partition, position) = entry.split_once('-').ok_or(InvalidPositionToken)?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(partition) || !digits(position) {
        return Err(InvalidPositionToken);
    }
    let partition = partition.parse().map_err(|_| InvalidPositionToken)?;
    Ok((partition, position.parse().map_err(|_| InvalidPositionToken)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back() {
        let positions = vec![(3, 1042), (7, 88)];
        let receipt = Receipt { positions: positions.clone(), recorded_at: DateTime::UNIX_EPOCH };
        assert_eq!(receipt.token(), "3-1042.7-88");
        assert_eq!(PositionToken::parse(&receipt.token()), Ok(positions));
        assert_eq!(PositionToken::parse(""), Ok(vec![]));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in
            ["3", "3-", "-3", "3-1.", ".", "a-1", "3-+1", "3--1", "3-1 ", "3-99999999999999999999", "99999999999-1"]
        {
            assert_eq!(PositionToken::parse(text), Err(InvalidPositionToken), "{text}");
        }
        assert_eq!(PositionToken::parse(&vec!["1-1"; 2_000].join(".")), Err(InvalidPositionToken));
    }
}
