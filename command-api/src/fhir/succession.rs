//! What an entry asks for whose resource is there already: the second night of an export.
//!
//! A newer version replaces what stands, an older one is refused by name, and what says the same as before adds nothing.
//! A PUT is an explicit wish, so that only a version that says itself to be older is refused. An entry of the directory
//! comes with the bundles of many patients, in as many versions: it refuses none of these bundles.

use nexus_domain::fhir::is_directory_type;
use nexus_domain::types::{ErrorKind, Note};
use nexus_domain::{Record, Succession};

use super::bundle::{Entry, Kind, Method};
use super::in_resource;
use crate::executor::Standing;
use crate::refusal::Fault;

/// How an entry is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// As its method says: nothing stands in its place.
    Plain,
    /// It replaces what stands.
    Replace,
    /// If it says what was first filed or what stands, it is there already. If not, this is done.
    Compare(Otherwise),
}

/// What is done about an entry that says something else than what stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Otherwise {
    /// It replaces that after all.
    Replace(Option<Note>),
    /// What stands is kept.
    Keep(Note),
    Refuse {
        rule: &'static str,
        detail: &'static str,
    },
}

const OLDER: &str = "older-than-stored";
const OLDER_REFUSED: &str = "What is recorded is newer, or just as new and says something else: compare meta.lastUpdated \
                             and meta.versionId. To replace it all the same, PUT with ifMatch.";
const OLDER_KEPT: &str = "What is recorded is newer, or just as new and says something else; it is kept.";
const RECORDED: &str = "already-recorded";
const RECORDED_REFUSED: &str = "A different resource is already recorded under this id. To replace it, send a newer \
                                meta.lastUpdated or meta.versionId, or PUT.";
const RECORDED_KEPT: &str =
    "What is recorded says when it was last changed, and this does not; what is recorded is kept.";
const FIRST_STATED: &str = "version-first-stated";
const FIRST_STATED_TEXT: &str = "It replaces what came without a version and may have been newer.";

/// How this entry is carried out, given what stands.
pub fn way<A: Record>(kind: Kind, entry: &Entry, standing: &Standing<A>) -> Way {
    if standing.sequence == 0 || entry.method == Method::Delete {
        return Way::Plain;
    }
    if entry.method == Method::Put && entry.if_match.is_some() {
        return Way::Replace;
    }
    let directory = if is_directory_type(&entry.resource_type) { Directory::Entry(kind) } else { Directory::No };
    choose(entry.method, directory, entry.stated.follows(&standing.version()))
}

/// Whether it is an entry of the directory, and how it came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Directory {
    Entry(Kind),
    No,
}

fn choose(method: Method, directory: Directory, succession: Succession) -> Way {
    let keeps = directory == Directory::Entry(Kind::Transaction);
    match (method, succession) {
        (Method::Post, Succession::Newer) => Way::Replace,
        (_, Succession::Older) | (Method::Post, Succession::Same) => {
            Way::Compare(keep_or_refuse(keeps, OLDER, OLDER_KEPT, OLDER_REFUSED))
        }
        (Method::Put | Method::Delete, _) => Way::Replace,
        (Method::Post, Succession::FirstStated) => {
            Way::Compare(Otherwise::Replace(Some(note(FIRST_STATED, FIRST_STATED_TEXT))))
        }
        (Method::Post, Succession::Unknown) if directory != Directory::No => Way::Compare(Otherwise::Replace(None)),
        (Method::Post, Succession::Unstated | Succession::Unknown) => {
            Way::Compare(keep_or_refuse(keeps, RECORDED, RECORDED_KEPT, RECORDED_REFUSED))
        }
    }
}

fn keep_or_refuse(keeps: bool, rule: &'static str, kept: &str, detail: &'static str) -> Otherwise {
    if keeps { Otherwise::Keep(note(rule, kept)) } else { Otherwise::Refuse { rule, detail } }
}

fn note(rule: &str, text: &str) -> Note {
    Note { rule: rule.to_owned(), text: text.to_owned() }
}

/// The fault of an entry that is refused for what stands.
pub fn refused(index: usize, rule: &str, detail: &str) -> Fault {
    Fault::new(ErrorKind::Conflict, in_resource(index), rule, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLINIC: Directory = Directory::Entry(Kind::Transaction);

    fn told(way: &Way) -> &str {
        match way {
            Way::Plain => "plain",
            Way::Replace => "replace",
            Way::Compare(Otherwise::Replace(None)) => "replace if it differs",
            Way::Compare(Otherwise::Replace(Some(note)) | Otherwise::Keep(note)) => &note.rule,
            Way::Compare(Otherwise::Refuse { rule, .. }) => rule,
        }
    }

    #[test]
    fn a_post_replaces_what_is_older() {
        let choose = |succession| choose(Method::Post, Directory::No, succession);
        assert_eq!(told(&choose(Succession::Newer)), "replace");
        assert_eq!(told(&choose(Succession::Same)), "older-than-stored");
        assert_eq!(told(&choose(Succession::Older)), "older-than-stored");
        assert_eq!(told(&choose(Succession::FirstStated)), "version-first-stated");
        assert_eq!(told(&choose(Succession::Unknown)), "already-recorded");
        assert_eq!(told(&choose(Succession::Unstated)), "already-recorded");
    }

    #[test]
    fn a_put_replaces_all_but_what_is_newer() {
        let choose = |succession| choose(Method::Put, Directory::No, succession);
        for succession in [Succession::Newer, Succession::Same, Succession::Unknown, Succession::Unstated] {
            assert_eq!(choose(succession), Way::Replace);
        }
        assert_eq!(told(&choose(Succession::Older)), "older-than-stored");
    }

    #[test]
    fn an_entry_of_the_directory_refuses_nobodys_transaction() {
        for method in [Method::Post, Method::Put] {
            for succession in [Succession::Older, Succession::Same, Succession::Unstated, Succession::Unknown] {
                let way = choose(method, CLINIC, succession);
                assert!(!matches!(way, Way::Compare(Otherwise::Refuse { .. })), "{succession:?}");
            }
        }
        assert_eq!(told(&choose(Method::Post, CLINIC, Succession::Unknown)), "replace if it differs");
        let alone = choose(Method::Post, Directory::Entry(Kind::Batch), Succession::Older);
        assert!(matches!(alone, Way::Compare(Otherwise::Refuse { rule: "older-than-stored", .. })));
    }
}
