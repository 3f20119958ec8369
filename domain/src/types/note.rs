//! What a rule has to say about history that it did not decide.

use serde::{Deserialize, Serialize};

/// A rule that recorded history breaks. The history stands (it has happened elsewhere); the note travels with the event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// The code of the rule's error, such as `active-allergy`.
    pub rule: String,
    /// A sentence for people, free of patient data.
    pub text: String,
}

impl Note {
    /// The note that an error leaves when the command states history.
    pub fn of(error: &impl super::RuleError) -> Self {
        Self { rule: error.code().to_owned(), text: error.to_string() }
    }
}
