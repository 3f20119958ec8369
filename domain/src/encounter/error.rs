//! Why a command about an encounter is refused.

use crate::common::Refusal;
use crate::types::{ErrorKind, FormError, RuleError};

/// The rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Form(#[from] FormError),
    #[error(transparent)]
    Common(#[from] Refusal),
    #[error("There is no such encounter.")]
    Unknown,
    #[error("An encounter starts in progress.")]
    StartsInProgress,
    #[error("The encounter is not in progress.")]
    NotInProgress,
    #[error("The encounter is already finished.")]
    AlreadyFinished,
    #[error("The encounter was cancelled.")]
    Cancelled,
    #[error("An encounter does not go back to an earlier step.")]
    StepBack,
    #[error("This can't have happened before the encounter started or the patient last moved.")]
    BeforeLastStep,
    #[error("This can't lie in the future.")]
    InFuture,
}

impl RuleError for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Form(error) => error.kind(),
            Self::Common(error) => error.kind(),
            Self::Unknown => ErrorKind::NotFound,
            Self::StartsInProgress | Self::BeforeLastStep | Self::InFuture => ErrorKind::Invalid,
            Self::NotInProgress | Self::AlreadyFinished | Self::Cancelled | Self::StepBack => ErrorKind::Conflict,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Form(error) => error.code(),
            Self::Common(error) => error.code(),
            Self::Unknown => "unknown-encounter",
            Self::StartsInProgress => "encounter-starts-in-progress",
            Self::NotInProgress => "encounter-not-in-progress",
            Self::AlreadyFinished => "encounter-already-finished",
            Self::Cancelled => "encounter-cancelled",
            Self::StepBack => "encounter-step-back",
            Self::BeforeLastStep => "before-last-step",
            Self::InFuture => "in-the-future",
        }
    }

    fn pointer(&self) -> Option<&str> {
        match self {
            Self::Form(error) => error.pointer(),
            Self::Common(error) => error.pointer(),
            Self::StartsInProgress | Self::StepBack => Some("/status"),
            _ => None,
        }
    }
}
