//! Why a command about a patient is refused.

use crate::common::Refusal;
use crate::types::{ErrorKind, FormError, RuleError};

/// The rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Form(#[from] FormError),
    #[error(transparent)]
    Common(#[from] Refusal),
    #[error("The patient's death is already recorded with another time.")]
    AlreadyDead,
    #[error("A death can't lie in the future.")]
    DeathInFuture,
    #[error("A patient can't die before birth.")]
    DeathBeforeBirth,
    #[error("A recorded death is only taken back by saying that the patient lives.")]
    DeathDropped,
    #[error("A record can't be a duplicate of itself.")]
    LinkedToItself,
    #[error("There is no such patient to link to.")]
    UnknownSurvivor,
    #[error("The link to the record that replaced this one can't be dropped.")]
    LinkDropped,
    #[error("The data of this patient was erased.")]
    Erased,
    #[error("Nobody has asked for the erasure of this patient.")]
    ErasureNotRequested,
    #[error("Somebody has asked for the erasure of this patient already.")]
    ErasureAlreadyRequested,
    #[error("The request for erasure has lapsed; ask again.")]
    ErasureLapsed,
    #[error("An erasure is approved by somebody other than who asked for it.")]
    ErasureNeedsSecondPerson,
    #[error("The data of this patient is under a legal hold.")]
    LegalHold,
    #[error("The data of this patient is under a legal hold already, for another reason.")]
    AlreadyHeld,
}

impl RuleError for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Form(error) => error.kind(),
            Self::Common(error) => error.kind(),
            Self::UnknownSurvivor | Self::Erased => ErrorKind::NotFound,
            Self::DeathInFuture | Self::DeathBeforeBirth | Self::LinkedToItself => ErrorKind::Invalid,
            Self::AlreadyDead
            | Self::DeathDropped
            | Self::LinkDropped
            | Self::ErasureNotRequested
            | Self::ErasureAlreadyRequested
            | Self::ErasureLapsed
            | Self::ErasureNeedsSecondPerson
            | Self::LegalHold
            | Self::AlreadyHeld => ErrorKind::Conflict,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Form(error) => error.code(),
            Self::Common(error) => error.code(),
            Self::AlreadyDead => "already-dead",
            Self::DeathInFuture => "in-the-future",
            Self::DeathBeforeBirth => "death-before-birth",
            Self::DeathDropped => "death-dropped",
            Self::LinkedToItself => "linked-to-itself",
            Self::UnknownSurvivor => "unknown-survivor",
            Self::LinkDropped => "link-dropped",
            Self::Erased => "subject-erased",
            Self::ErasureNotRequested => "erasure-not-requested",
            Self::ErasureAlreadyRequested => "erasure-already-requested",
            Self::ErasureLapsed => "erasure-lapsed",
            Self::ErasureNeedsSecondPerson => "erasure-needs-second-person",
            Self::LegalHold => "legal-hold",
            Self::AlreadyHeld => "already-held",
        }
    }

    fn pointer(&self) -> Option<&str> {
        match self {
            Self::Form(error) => error.pointer(),
            Self::Common(error) => error.pointer(),
            Self::DeathDropped => Some("/deceasedDateTime"),
            Self::LinkDropped => Some("/link"),
            _ => None,
        }
    }
}
