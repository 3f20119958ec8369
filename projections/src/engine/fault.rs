//! What a failure means: wait and try again, or the event itself is at fault.
//!
//! Database messages quote values ("invalid input syntax for …"), so nothing of them is logged or stored: only the
//! SQLSTATE and the names of tables and constraints, which are ours.

use sqlx::error::DatabaseError;

use crate::read_model::ApplyError;

/// A failure, judged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The cause may pass or is not about one event: wait and try the same again.
    Passing(String),
    /// The event (or one of the batch) is at fault; the code says how.
    Lasting(String),
}

/// SQLSTATE classes that speak about the server or the moment, not about a row.
const PASSING_CLASSES: [&str; 7] = ["08", "25", "28", "40", "53", "57", "58"];
/// Conditions of a schema that does not fit the program: parking every event would only hide it.
const PASSING_CODES: [&str; 8] = ["42P01", "42703", "42501", "42883", "3F000", "26000", "0A000", "55P03"];

impl Fault {
    pub(crate) fn of(error: &ApplyError) -> Self {
        match error {
            ApplyError::Database(error) => Self::of_database(error),
            ApplyError::Seal(nexus_event_store::Error::Unavailable(_)) => Self::Passing("key store".to_owned()),
            ApplyError::Seal(_) => Self::Lasting("seal".to_owned()),
            ApplyError::Event(code) => Self::Lasting((*code).to_owned()),
        }
    }

    pub(crate) fn of_database(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => judge(error.as_ref()),
            sqlx::Error::Encode(_) => Self::Lasting("database.encode".to_owned()),
            sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => Self::Lasting("database.decode".to_owned()),
            sqlx::Error::RowNotFound => Self::Lasting("database.row-not-found".to_owned()),
            sqlx::Error::PoolTimedOut => Self::Passing("no connection in time".to_owned()),
            sqlx::Error::Io(error) => Self::Passing(format!("connection: {}", error.kind())),
            _ => Self::Passing("connection".to_owned()),
        }
    }

    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Passing(code) | Self::Lasting(code) => code,
        }
    }
}

fn judge(error: &dyn DatabaseError) -> Fault {
    let state = error.code().unwrap_or_default();
    let mut code = format!("database.{state}");
    for name in [error.table(), error.constraint()].into_iter().flatten() {
        code.push(' ');
        code.push_str(name);
    }
    let passing =
        PASSING_CLASSES.iter().any(|class| state.starts_with(class)) || PASSING_CODES.contains(&state.as_ref());
    if passing { Fault::Passing(code) } else { Fault::Lasting(code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_away_database_is_waited_for() {
        let refused = sqlx::Error::Io(std::io::ErrorKind::ConnectionRefused.into());
        for error in [refused, sqlx::Error::PoolTimedOut, sqlx::Error::PoolClosed, sqlx::Error::WorkerCrashed] {
            assert!(matches!(Fault::of(&ApplyError::Database(error)), Fault::Passing(_)));
        }
        let away = ApplyError::Seal(nexus_event_store::Error::Unavailable(None));
        assert!(matches!(Fault::of(&away), Fault::Passing(_)));
    }

    #[test]
    fn an_event_without_an_answer_is_at_fault() {
        assert_eq!(Fault::of(&ApplyError::Event("no-code")), Fault::Lasting("no-code".to_owned()));
    }
}
