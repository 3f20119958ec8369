//! What can be asked of a directory entry.

use crate::fhir::Resource;

/// The commands of a directory entry.
#[derive(Clone, Debug, PartialEq)]
pub enum DirectoryEntryCommand {
    /// Enters a practitioner, an organization, a place …
    Register { resource: Resource },
    /// Replaces the entry by a corrected or newer one. An update may also bring a retired entry back.
    Update { resource: Resource },
    /// The entry is no longer in use.
    Retire,
}
