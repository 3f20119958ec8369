//! Why a command about a medication order is refused.

use crate::common::Refusal;
use crate::types::{ErrorKind, FormError, RuleError};

/// The rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Form(#[from] FormError),
    #[error(transparent)]
    Common(#[from] Refusal),
    #[error("There is no such medication order.")]
    Unknown,
    #[error("A medication is prescribed with the status active.")]
    PrescribedActive,
    #[error("The patient has an active allergy to this medication. A reason is needed to prescribe it anyway.")]
    ActiveAllergy,
    #[error(
        "The patient may have an allergy to this medication, which nobody has confirmed. A reason is needed to prescribe it anyway."
    )]
    UnconfirmedAllergy,
    #[error(
        "The medication and an active allergy of the patient share neither a code system nor words, so that they can't be compared. A reason is needed to prescribe it anyway."
    )]
    NotCheckable,
    #[error("An order stays with its medication. Another one needs an order of its own.")]
    MedicationChanged,
    #[error("The order is not active.")]
    NotActive,
    #[error("The order is on hold.")]
    OnHold,
    #[error("The order was stopped.")]
    Stopped,
    #[error("The order is completed.")]
    Completed,
}

impl RuleError for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Form(error) => error.kind(),
            Self::Common(error) => error.kind(),
            Self::Unknown => ErrorKind::NotFound,
            Self::PrescribedActive => ErrorKind::Invalid,
            Self::ActiveAllergy
            | Self::UnconfirmedAllergy
            | Self::NotCheckable
            | Self::MedicationChanged
            | Self::NotActive
            | Self::OnHold
            | Self::Stopped
            | Self::Completed => ErrorKind::Conflict,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Form(error) => error.code(),
            Self::Common(error) => error.code(),
            Self::Unknown => "unknown-medication-order",
            Self::PrescribedActive => "prescription-not-active",
            Self::ActiveAllergy | Self::UnconfirmedAllergy => "active-allergy",
            Self::NotCheckable => "medication-not-checkable",
            Self::MedicationChanged => "medication-changed",
            Self::NotActive => "order-not-active",
            Self::OnHold => "order-on-hold",
            Self::Stopped => "order-stopped",
            Self::Completed => "order-completed",
        }
    }

    fn pointer(&self) -> Option<&str> {
        match self {
            Self::Form(error) => error.pointer(),
            Self::Common(error) => error.pointer(),
            Self::PrescribedActive => Some("/status"),
            _ => None,
        }
    }
}
