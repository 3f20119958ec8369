//! Why a command about an appointment is refused.

use crate::common::Refusal;
use crate::types::{ErrorKind, FormError, RuleError};

/// The rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Form(#[from] FormError),
    #[error(transparent)]
    Common(#[from] Refusal),
    #[error("There is no such appointment.")]
    Unknown,
    #[error("An appointment is booked as proposed, pending or booked.")]
    NotBookable,
    #[error("An appointment starts and ends at a full five minutes.")]
    OffGrid,
    #[error("An appointment ends after it starts.")]
    NoLength,
    #[error("An appointment lasts twelve hours at most.")]
    TooLong,
    #[error("An appointment can't be booked in the past.")]
    InPast,
    #[error("The practitioner's time is already taken.")]
    SlotTaken,
    #[error("The moved appointment does not hold the practitioner's time.")]
    SlotUnclaimed,
    #[error("The appointment has no time yet.")]
    NotScheduled,
    #[error("The appointment is not confirmed.")]
    NotConfirmed,
    #[error("The patient is already checked in.")]
    AlreadyCheckedIn,
    #[error("The appointment has not begun yet.")]
    NotYetDue,
    #[error("The appointment has begun already.")]
    Begun,
    #[error("The appointment is over or was cancelled.")]
    Over,
}

impl RuleError for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Form(error) => error.kind(),
            Self::Common(error) => error.kind(),
            Self::Unknown => ErrorKind::NotFound,
            Self::NotBookable | Self::OffGrid | Self::NoLength | Self::TooLong | Self::InPast => ErrorKind::Invalid,
            Self::SlotTaken
            | Self::SlotUnclaimed
            | Self::NotScheduled
            | Self::NotConfirmed
            | Self::AlreadyCheckedIn
            | Self::NotYetDue
            | Self::Begun
            | Self::Over => ErrorKind::Conflict,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Form(error) => error.code(),
            Self::Common(error) => error.code(),
            Self::Unknown => "unknown-appointment",
            Self::NotBookable => "appointment-not-bookable",
            Self::OffGrid => "appointment-off-grid",
            Self::NoLength => "appointment-without-length",
            Self::TooLong => "appointment-too-long",
            Self::InPast => "appointment-in-the-past",
            Self::SlotTaken => "slot-taken",
            Self::SlotUnclaimed => "slot-unclaimed",
            Self::NotScheduled => "appointment-not-scheduled",
            Self::NotConfirmed => "appointment-not-confirmed",
            Self::AlreadyCheckedIn => "already-checked-in",
            Self::NotYetDue => "appointment-not-yet-due",
            Self::Begun => "appointment-has-begun",
            Self::Over => "appointment-over",
        }
    }

    fn pointer(&self) -> Option<&str> {
        match self {
            Self::Form(error) => error.pointer(),
            Self::Common(error) => error.pointer(),
            Self::NotBookable => Some("/status"),
            Self::OffGrid | Self::InPast | Self::SlotTaken => Some("/start"),
            Self::NoLength | Self::TooLong => Some("/end"),
            _ => None,
        }
    }
}
