//! Why a command about a clinical record is refused.

use crate::common::Refusal;
use crate::types::{ErrorKind, FormError, RuleError};

/// The rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Form(#[from] FormError),
    #[error(transparent)]
    Common(#[from] Refusal),
    #[error("There is no such record.")]
    Unknown,
    #[error("A record can't become a resource of another type.")]
    TypeChanged,
}

impl RuleError for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Form(error) => error.kind(),
            Self::Common(error) => error.kind(),
            Self::Unknown => ErrorKind::NotFound,
            Self::TypeChanged => ErrorKind::Invalid,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Form(error) => error.code(),
            Self::Common(error) => error.code(),
            Self::Unknown => "unknown-record",
            Self::TypeChanged => "type-changed",
        }
    }

    fn pointer(&self) -> Option<&str> {
        match self {
            Self::Form(error) => error.pointer(),
            Self::Common(error) => error.pointer(),
            Self::TypeChanged => Some("/resourceType"),
            _ => None,
        }
    }
}
