//! What a failure means: wait and try again, or the event itself is at fault.
//!
//! Database messages quote values ("invalid input syntax for …"), so nothing of them is logged or stored: only the
//! SQLSTATE and the names of tables and constraints, which are ours.

use sqlx::error::DatabaseError;

use super::parked::BEHIND;
use crate::read_model::ApplyError;

/// A failure, judged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The cause may pass or is not about one event: wait and try the same again.
    Passing(String),
    /// The event (or one of the batch) is at fault.
    Lasting(Reason),
}

/// How an event is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reason {
    pub(crate) code: String,
    /// What is behind it, from the outside in: words and codes of ours, and names of tables and constraints.
    pub(crate) causes: Vec<String>,
}

impl Reason {
    pub(crate) fn new(code: impl Into<String>, causes: &[&str]) -> Self {
        Self { code: code.into(), causes: causes.iter().copied().map(str::to_owned).collect() }
    }

    /// Nothing is wrong with the event; an earlier one of its subject is parked.
    pub(crate) fn behind() -> Self {
        Self::new(BEHIND, &[])
    }

    /// The event could not even be read.
    pub(crate) fn unreadable(code: &str) -> Self {
        Self::new(code, &["the event can't be read", code])
    }
}

/// Where most causes begin.
const NOT_APPLIED: &str = "the read model can't apply the event";

/// SQLSTATE classes that speak about the server or the moment, not about a row.
const PASSING_CLASSES: [&str; 7] = ["08", "25", "28", "40", "53", "57", "58"];
/// Conditions of a schema that does not fit the program: parking every event would only hide it.
const PASSING_CODES: [&str; 8] = ["42P01", "42703", "42501", "42883", "3F000", "26000", "0A000", "55P03"];

impl Fault {
    pub(crate) fn of(error: &ApplyError) -> Self {
        match error {
            ApplyError::Database(error) => Self::of_database(error),
            ApplyError::Seal(nexus_event_store::Error::Unavailable(_)) => Self::Passing("key store".to_owned()),
            ApplyError::Seal(_) => {
                Self::Lasting(Reason::new("seal", &[NOT_APPLIED, "a row can't be sealed or opened"]))
            }
            ApplyError::Event(code) => Self::Lasting(Reason::new(*code, &[NOT_APPLIED, code])),
        }
    }

    pub(crate) fn of_database(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => judge(error.as_ref()),
            sqlx::Error::Encode(_) => without_answer("database.encode", "a value can't be sent"),
            sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => {
                without_answer("database.decode", "a value can't be read")
            }
            sqlx::Error::RowNotFound => without_answer("database.row-not-found", "a row is not there"),
            sqlx::Error::PoolTimedOut => Self::Passing("no connection in time".to_owned()),
            sqlx::Error::Io(error) => Self::Passing(format!("connection: {}", error.kind())),
            _ => Self::Passing("connection".to_owned()),
        }
    }

    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Passing(code) | Self::Lasting(Reason { code, .. }) => code,
        }
    }
}

fn without_answer(code: &str, cause: &str) -> Fault {
    Fault::Lasting(Reason::new(code, &[NOT_APPLIED, cause]))
}

fn judge(error: &dyn DatabaseError) -> Fault {
    let state = error.code().unwrap_or_default();
    let mut code = format!("database.{state}");
    let refused = "the database refused a statement";
    let mut causes = vec![NOT_APPLIED.to_owned(), refused.to_owned(), format!("SQLSTATE {state}")];
    for (kind, name) in [("table", error.table()), ("constraint", error.constraint())] {
        let Some(name) = name else { continue };
        code.push(' ');
        code.push_str(name);
        causes.push(format!("{kind} {name}"));
    }
    let passing =
        PASSING_CLASSES.iter().any(|class| state.starts_with(class)) || PASSING_CODES.contains(&state.as_ref());
    if passing { Fault::Passing(code) } else { Fault::Lasting(Reason { code, causes }) }
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
        let reason = Reason::new("no-code", &["the read model can't apply the event", "no-code"]);
        assert_eq!(Fault::of(&ApplyError::Event("no-code")), Fault::Lasting(reason));
    }
}
