//! Whose each entry is, and where it is kept: in a patient's record, or in the directory if it is about no patient.
//!
//! Most entries name their patient. The others belong to what they speak of, which may be another entry or be stored
//! already; only then is anything looked up.

use std::collections::{HashMap, HashSet};

use cqrs_es::Aggregate;
use nexus_domain::OF_NOBODY;
use nexus_domain::fhir::{Owner, Whose, is_directory_type, settle};
use nexus_domain::patient::Patient;
use nexus_domain::types::FormError;
use uuid::Uuid;

use super::in_resource;
use super::resolve::{Resolved, ResolvedResult};
use crate::executor::LoadError;
use crate::existence::{Existence, Named};
use crate::refusal::Fault;

/// What is known of the owners of linked resources: nothing as long as an entry's own owner is not settled.
type Owners = HashMap<Named, Option<Owner>>;

/// Settles whose the entries are. Those of whom it can't be told are refused.
///
/// # Errors
/// If what they are linked to can't be looked up.
pub async fn settle_all(existence: &Existence, results: Vec<ResolvedResult>) -> Result<Vec<ResolvedResult>, LoadError> {
    let linked: HashSet<Named> = results.iter().flatten().flat_map(links).cloned().collect();
    let mut owners = Owners::new();
    if !linked.is_empty() {
        owners = inside(&results);
        let outside: Vec<&Named> = linked.iter().filter(|named| !owners.contains_key(*named)).collect();
        let found = existence.owners(outside.into_iter()).await?;
        owners.extend(found.into_iter().map(|(named, owner)| {
            let of = owner_of(&named, owner);
            (named, Some(of))
        }));
        follow(&results, &mut owners);
    }
    Ok(results.into_iter().map(|result| result.and_then(|resolved| settled(resolved, &owners))).collect())
}

/// Whose a stored resource is: what is about nobody has a stream and a key of its own.
pub fn owner_of((resource_type, id): &Named, subject: Uuid) -> Owner {
    let nobodys = resource_type != Patient::TYPE && (subject == *id || is_directory_type(resource_type));
    if nobodys { Owner::Nobody } else { Owner::Patient(subject) }
}

fn links(resolved: &Resolved) -> &[Named] {
    match &resolved.whose {
        Some(Whose::Linked(links) | Whose::About(links)) => links,
        _ => &[],
    }
}

/// Whose the entries themselves are, as far as they say it.
fn inside(results: &[ResolvedResult]) -> Owners {
    let owner = |resolved: &Resolved| match (&resolved.whose, resolved.existing) {
        (_, Some(existing)) => Some(owner_of(&(resolved.entry.resource_type.clone(), existing), existing)),
        (Some(Whose::Patient(id)), _) => Some(Owner::Patient(*id)),
        (Some(Whose::Nobodys), _) => Some(Owner::Nobody),
        _ => None,
    };
    let id = |resolved: &Resolved| resolved.existing.unwrap_or(resolved.entry.id);
    let named = |resolved: &Resolved| ((resolved.entry.resource_type.clone(), id(resolved)), owner(resolved));
    // A deletion says nothing of whose it is; the log does.
    let says = |resolved: &&Resolved| resolved.whose.is_some() || resolved.existing.is_some();
    results.iter().flatten().filter(says).map(named).collect()
}

/// Settles entries that are linked to other entries that are linked, as far as that leads.
fn follow(results: &[ResolvedResult], owners: &mut Owners) {
    let mut open: Vec<&Resolved> = results.iter().flatten().filter(|resolved| !links(resolved).is_empty()).collect();
    loop {
        let before = open.len();
        open.retain(|resolved| {
            if links(resolved).iter().any(|link| owners.get(link) == Some(&None)) {
                return true;
            }
            let name = (resolved.entry.resource_type.clone(), resolved.entry.id);
            if let Ok(owner) = decide(resolved, owners) {
                owners.insert(name, Some(owner));
            } else {
                owners.remove(&name);
            }
            false
        });
        if open.len() == before {
            return;
        }
    }
}

fn decide(resolved: &Resolved, owners: &Owners) -> Result<Owner, FormError> {
    let whose = resolved.whose.as_ref().unwrap_or(&Whose::Nobodys);
    let owner = |named: &Named| match owners.get(named) {
        Some(owner) => *owner,
        None if named.0 == Patient::TYPE => Some(Owner::Patient(named.1)),
        None => None,
    };
    Ok(settle(&resolved.entry.resource_type, whose, owner)?)
}

fn settled(mut resolved: Resolved, owners: &Owners) -> ResolvedResult {
    if resolved.whose.is_none() || resolved.existing.is_some() {
        return Ok(resolved);
    }
    match decide(&resolved, owners) {
        Ok(Owner::Patient(id)) => resolved.subject = Some(id),
        Ok(Owner::Nobody) => {
            resolved.subject = Some(resolved.entry.id);
            resolved.aggregate_type = OF_NOBODY;
        }
        Err(error) => return Err(vec![Fault::of(&error).under(&in_resource(resolved.entry.index))]),
    }
    Ok(resolved)
}
