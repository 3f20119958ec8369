//! What streams claim, for the log to know when events come back from Kafka: their claims do not come with them.

use cqrs_es::Aggregate;
use nexus_domain::appointment::Appointment;
use nexus_domain::directory_entry::DirectoryEntry;
use nexus_domain::patient::Patient;
use nexus_domain::types::{Claim, ClaimChange, ClaimKind};
use nexus_domain::{ReadError, Record, read};
use nexus_event_store::{ClaimRules, Claimed, StoredEvent};
use uuid::Uuid;

use crate::executor::stored_claim;

/// The claims of each aggregate that has any.
pub const RULES: ClaimRules =
    ClaimRules { aggregate_types: &[Patient::TYPE, DirectoryEntry::TYPE, Appointment::TYPE], claimed };

/// The changes with directory identifiers in the places where their bearers are noted: one that is taken goes into the
/// first place that is free, or into none if there are more bearers than places; a former bearer gives its place up.
pub fn in_places(changes: &[ClaimChange], is_taken: impl Fn(&Claim) -> bool) -> Vec<ClaimChange> {
    let place = |change: &ClaimChange| match change {
        ClaimChange::Take(claim) if claim.kind == ClaimKind::DirectoryIdentifier => {
            claim.places().into_iter().find(|place| !is_taken(place)).map(ClaimChange::Take).into_iter().collect()
        }
        ClaimChange::Release(claim) if claim.kind == ClaimKind::DirectoryIdentifier => {
            claim.places_given_up().into_iter().map(ClaimChange::Release).collect()
        }
        other => vec![other.clone()],
    };
    changes.iter().flat_map(place).collect()
}

fn claimed(
    aggregate_type: &str,
    events: Vec<StoredEvent>,
) -> Result<Claimed, Box<dyn std::error::Error + Send + Sync>> {
    let claimed = match aggregate_type {
        Patient::TYPE => claimed_by::<Patient>(events),
        DirectoryEntry::TYPE => claimed_by::<DirectoryEntry>(events),
        Appointment::TYPE => claimed_by::<Appointment>(events),
        _ => Ok(Claimed::default()),
    };
    Ok(claimed?)
}

fn claimed_by<A: Record>(events: Vec<StoredEvent>) -> Result<Claimed, ReadError> {
    let mut state = A::default();
    let (mut held, mut given_up) = (Vec::<Claim>::new(), Vec::<Claim>::new());
    let id = events.first().map(|event| event.header.aggregate_id).unwrap_or_default();
    let mut read_all = Vec::with_capacity(events.len());
    for StoredEvent { header, payload, .. } in events {
        read_all.extend(read::<A>(&header.event_type, &header.event_version, payload)?);
    }
    for event in read_all {
        for change in state.claims(&event) {
            match change {
                ClaimChange::Take(claim) => {
                    given_up.retain(|other| *other != claim);
                    held.push(claim);
                }
                ClaimChange::Release(claim) => {
                    held.retain(|other| *other != claim);
                    given_up.push(claim);
                }
            }
        }
        state.apply(event);
    }
    let stored = |claims: Vec<Claim>| claims.into_iter().map(stored_claim).collect();
    let held = held.into_iter().map(|claim| place_after_loss(claim, id)).collect();
    let given_up = given_up.into_iter().flat_map(places_after_loss).collect();
    Ok(Claimed { held: stored(held), given_up: stored(given_up) })
}

/// Nobody knows any more who had which place of a directory identifier. The first one is left to whoever has it; several
/// bearers whose events came back share it out by their ids.
fn place_after_loss(claim: Claim, id: Uuid) -> Claim {
    if claim.kind != ClaimKind::DirectoryIdentifier {
        return claim;
    }
    let mut places = claim.places().split_off(1);
    let number = usize::try_from(id.as_u128() % places.len() as u128).unwrap_or_default();
    places.swap_remove(number)
}

fn places_after_loss(claim: Claim) -> Vec<Claim> {
    if claim.kind == ClaimKind::DirectoryIdentifier { claim.places_given_up() } else { vec![claim] }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use nexus_event_store::{Header, Metadata};
    use serde_json::{Value, json};

    use super::*;

    fn stored(sequence: i64, event_type: &str, payload: Value) -> StoredEvent {
        let id = Uuid::from_u128(7);
        let header = Header {
            aggregate_type: Patient::TYPE.to_owned(),
            aggregate_id: id,
            sequence,
            subject: id,
            event_type: event_type.to_owned(),
            event_version: "1.0".to_owned(),
            key_id: Uuid::nil(),
            recorded_at: Utc::now(),
            traceparent: None,
        };
        StoredEvent { header, partition: 0, position: sequence, payload, metadata: Metadata::default(), source: None }
    }

    fn patient(number: &str) -> Value {
        let of_a_record =
            json!({"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]});
        json!({"resourceType": "Patient", "id": Uuid::from_u128(7),
            "identifier": [{"type": of_a_record, "system": "urn:test", "value": number}]})
    }

    #[test]
    fn a_stream_holds_what_it_has_taken_and_not_given_up() {
        let numbered = |number: &str| stored_claim(Claim::medical_record_number("urn:test", number));
        let registered =
            |number| stored(1, "Patient.Registered", json!({"Registered": {"resource": patient(number), "notes": []}}));
        let updated =
            |number| stored(2, "Patient.Updated", json!({"Updated": {"resource": patient(number), "notes": []}}));
        let claimed = |events| (RULES.claimed)(Patient::TYPE, events).unwrap();
        assert_eq!(claimed(vec![registered("1")]), Claimed { held: vec![numbered("1")], given_up: vec![] });
        let moved = Claimed { held: vec![numbered("2")], given_up: vec![numbered("1")] };
        assert_eq!(claimed(vec![registered("1"), updated("2")]), moved);
        let back = Claimed { held: vec![numbered("1")], given_up: vec![numbered("2")] };
        assert_eq!(claimed(vec![registered("1"), updated("2"), updated("1")]), back);
    }

    /// Or the bearer before the loss would no longer count.
    #[test]
    fn after_a_loss_nobody_takes_the_first_place_of_another() {
        let claim = Claim::directory_identifier("Organization", "urn:vat", "9");
        for id in 0..6 {
            let place = place_after_loss(claim.clone(), Uuid::from_u128(id));
            assert!(place.is_further_place() && claim.places().contains(&place));
        }
        let number = Claim::medical_record_number("urn:clinic", "9");
        assert_eq!(place_after_loss(number.clone(), Uuid::from_u128(1)), number);
    }

    #[test]
    fn each_bearer_of_an_identifier_takes_the_first_free_place() {
        let claim = Claim::directory_identifier("PractitionerRole", "urn:staff", "77");
        let places = claim.places();
        let take = |taken: &[Claim]| in_places(&[ClaimChange::Take(claim.clone())], |place| taken.contains(place));
        assert_eq!(take(&[]), [ClaimChange::Take(claim.clone())]);
        assert_eq!(take(&places[..1]), [ClaimChange::Take(places[1].clone())]);
        assert_eq!(take(&places), []);
        let number = Claim::medical_record_number("urn:staff", "77");
        assert_eq!(in_places(&[ClaimChange::Take(number.clone())], |_| true), [ClaimChange::Take(number)]);
        let given_up = in_places(&[ClaimChange::Release(claim)], |_| false);
        assert_eq!(given_up.len(), places.len() - 1);
    }

    #[test]
    fn an_event_that_cannot_be_read_is_not_passed_over() {
        assert!((RULES.claimed)(Patient::TYPE, vec![stored(1, "Patient.Registered", json!({}))]).is_err());
    }
}
