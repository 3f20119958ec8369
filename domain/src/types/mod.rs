//! Values that aggregates share.

mod claim;
mod error;
mod note;

pub use claim::{Claim, ClaimChange, ClaimKind};
pub use error::{ErrorKind, FormError, RuleError};
pub use note::Note;
