//! The rules of a directory entry. They mind no patient, since it is about none.

use super::form::{check, is_retired, retired};
use super::{DirectoryEntry, DirectoryEntryCommand, DirectoryEntryEvent, Error};
use crate::common::repeated;
use crate::fhir::Resource;
use crate::record::Issued;

pub(super) fn decide(
    state: &DirectoryEntry,
    issued: &Issued<DirectoryEntryCommand>,
) -> Result<Vec<DirectoryEntryEvent>, Error> {
    match &issued.action {
        DirectoryEntryCommand::Register { resource } => register(state, resource),
        DirectoryEntryCommand::Update { resource } => update(state, resource),
        DirectoryEntryCommand::Retire => retire(state),
    }
}

fn register(state: &DirectoryEntry, resource: &Resource) -> Result<Vec<DirectoryEntryEvent>, Error> {
    check(resource)?;
    if repeated(state.filed.as_ref(), state.resource.as_ref(), resource)? {
        return Ok(Vec::new());
    }
    Ok(vec![DirectoryEntryEvent::Registered { resource: resource.clone(), notes: Vec::new() }])
}

fn update(state: &DirectoryEntry, resource: &Resource) -> Result<Vec<DirectoryEntryEvent>, Error> {
    check(resource)?;
    let standing = standing(state)?;
    if standing.digest() == resource.digest() {
        return Ok(Vec::new());
    }
    if standing.resource_type() != resource.resource_type() {
        return Err(Error::TypeChanged);
    }
    Ok(vec![DirectoryEntryEvent::Updated { resource: resource.clone(), notes: Vec::new() }])
}

fn retire(state: &DirectoryEntry) -> Result<Vec<DirectoryEntryEvent>, Error> {
    let standing = standing(state)?;
    if is_retired(standing) {
        return Ok(Vec::new());
    }
    Ok(vec![DirectoryEntryEvent::Retired { resource: retired(standing) }])
}

fn standing(state: &DirectoryEntry) -> Result<&Resource, Error> {
    state.resource.as_ref().ok_or(Error::Unknown)
}
