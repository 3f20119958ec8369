//! Whose data a resource is: a patient's, or nobody's.

use std::collections::BTreeSet;

use serde_json::Value;
use uuid::Uuid;

use super::whose::{Otherwise, Rule, rule};
use super::{Reference, Resource, references};
use crate::types::FormError;

/// Directory types that an identifier leads to, as long as only one of them bears it. Others are known by a canonical URL and a version,
/// or travel as copies with whatever mentions them.
const FOUND_BY_IDENTIFIER: &[&str] = &[
    "Endpoint",
    "HealthcareService",
    "InsurancePlan",
    "Location",
    "Organization",
    "OrganizationAffiliation",
    "Practitioner",
    "PractitionerRole",
    "Schedule",
    "Slot",
];

/// Types beside those of the directory that anybody may read who reads the directory, as long as they mention nothing of
/// a patient: what the house has, and what was measured in it.
const OPEN: &[&str] = &["Device", "DeviceMetric", "Group", "Observation"];

/// What is known of whose a resource is from the resource alone. Its references must have been resolved before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// This patient's.
    Patient(Uuid),
    /// About nobody and nothing in particular.
    Nobodys,
    /// It names no patient, and belongs to whatever these are (type and id), if they are a patient's.
    Linked(Vec<(String, Uuid)>),
    /// It names something else than a patient as what it is about: these things, which may be a patient's themselves, or
    /// nothing that could be.
    About(Vec<(String, Uuid)>),
    /// It can't be told, and the reason why.
    Unknown(Homeless),
}

/// Why it can't be told whose a resource is, or why it has no place here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Homeless {
    /// The element that names the patient is missing.
    Unnamed,
    /// Somebody is named by a text, an identifier, an address elsewhere, or as a contained resource.
    Unclear,
    /// It is about several patients.
    Several,
    /// It is about something or somebody of a patient, and so not about the patient.
    Thing,
    /// Resources of this type are not kept.
    NotKept(&'static str),
}

/// Whose something is that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Patient(Uuid),
    Nobody,
}

impl From<Homeless> for FormError {
    fn from(homeless: Homeless) -> Self {
        match homeless {
            Homeless::Unnamed => Self::new("no-patient", "", "It can't be told which patient the resource is about."),
            Homeless::Unclear => Self::new(
                "no-patient",
                "",
                "Whom the resource is about is told by a text, an identifier, a contained resource or an address \
                 elsewhere. Only a reference to a patient here tells whose it is.",
            ),
            Homeless::Several => {
                Self::new("several-patients", "", "The resource is about several patients; a record is one patient's.")
            }
            Homeless::Thing => Self::new(
                "no-patient",
                "",
                "The resource is about somebody or something that is a patient's, such as a relative or a device, and not \
                 about the patient. An observation names the patient in subject and the other in focus.",
            ),
            Homeless::NotKept(reason) => Self::new("unsupported-type", "", reason),
        }
    }
}

/// Whether resources of this type name no patient and are open to whoever reads the directory.
pub fn is_directory_type(resource_type: &str) -> bool {
    rule(resource_type).is_some_and(|rule| rule.directory)
}

/// Whether no resource of this type is a patient's.
pub(crate) fn is_never_a_patients(resource_type: &str) -> bool {
    let never = |rule: Rule| rule.named.is_empty() && rule.linked.is_empty() && rule.otherwise == Otherwise::Nobodys;
    rule(resource_type).is_some_and(never)
}

/// Whether a resource of this type may be a fact about no patient.
pub fn may_be_nobodys(resource_type: &str) -> bool {
    let may_be = |rule: Rule| match rule.otherwise {
        Otherwise::Nobodys => true,
        // What such an element names need not be a patient, except where FHIR allows nothing else.
        Otherwise::Refused => matches!(rule.named, "subject" | "for"),
        Otherwise::NotKept(_) => false,
    };
    rule(resource_type).is_some_and(may_be)
}

/// Why resources of this type are not kept, if they are not.
pub fn reason_not_kept(resource_type: &str) -> Option<&'static str> {
    match rule(resource_type)?.otherwise {
        Otherwise::NotKept(reason) => Some(reason),
        _ => None,
    }
}

/// Whether directory entries of this type are looked up by their identifiers.
pub fn is_found_by_identifier(resource_type: &str) -> bool {
    FOUND_BY_IDENTIFIER.contains(&resource_type)
}

/// Whether a resource about no patient is open to whoever reads the directory. What mentions anything that may be a
/// patient's is not.
pub fn is_open(resource: &Resource) -> bool {
    let harmless = |text: &str| match Reference::parse(text) {
        Reference::Resource { resource_type, .. } | Reference::Conditional { resource_type, .. } => {
            is_directory_type(&resource_type) || matches!(resource_type.as_str(), "Device" | "DeviceMetric")
        }
        Reference::Contained(_) => true,
        _ => false,
    };
    is_directory_type(resource.resource_type())
        || OPEN.contains(&resource.resource_type()) && references(resource).into_iter().all(|(_, text)| harmless(text))
}

/// What a resource says about whose it is. Nothing is guessed: neither from who wrote or performed it nor from what else
/// it mentions.
pub fn whose(resource: &Resource) -> Whose {
    let Some(rule) = rule(resource.resource_type()) else { return Whose::Unknown(Homeless::Unnamed) };
    if let Otherwise::NotKept(reason) = rule.otherwise {
        return Whose::Unknown(Homeless::NotKept(reason));
    }
    if resource.resource_type() == "Patient" {
        return resource.id().map_or(Whose::Unknown(Homeless::Unnamed), Whose::Patient);
    }
    named_by(resource, rule).unwrap_or_else(|| {
        let links = linked(resource, rule.linked);
        match rule.otherwise {
            _ if !links.is_empty() => Whose::Linked(links),
            Otherwise::Nobodys => Whose::Nobodys,
            _ => Whose::Unknown(Homeless::Unnamed),
        }
    })
}

/// Whose a resource is, when it is known whose the things are that it is linked to.
///
/// # Errors
/// If it can't be told.
pub fn settle(
    resource_type: &str,
    whose: &Whose,
    owner: impl Fn(&(String, Uuid)) -> Option<Owner>,
) -> Result<Owner, Homeless> {
    let owned_by = |links: &[(String, Uuid)]| {
        let patients = links.iter().filter_map(&owner).filter_map(|owner| match owner {
            Owner::Patient(id) => Some(id),
            Owner::Nobody => None,
        });
        one(patients.collect())
    };
    match whose {
        Whose::Patient(id) => Ok(Owner::Patient(*id)),
        Whose::Nobodys => Ok(Owner::Nobody),
        Whose::Unknown(homeless) => Err(*homeless),
        Whose::About(things) => match owned_by(things)? {
            None => Ok(Owner::Nobody),
            Some(_) if resource_type == "Observation" || things.iter().any(|(name, _)| name == "RelatedPerson") => {
                Err(Homeless::Thing)
            }
            Some(id) => Ok(Owner::Patient(id)),
        },
        Whose::Linked(links) => match owned_by(links)? {
            Some(id) => Ok(Owner::Patient(id)),
            None if rule(resource_type).is_some_and(|rule| rule.otherwise == Otherwise::Nobodys) => Ok(Owner::Nobody),
            None => Err(Homeless::Unnamed),
        },
    }
}

/// The patient that a resource names as the one it is about: a Patient is its own. Nothing if only what it is linked to
/// can tell. References must have been resolved to `Patient/<uuid>` before.
pub fn patient_of(resource: &Resource) -> Option<Uuid> {
    match whose(resource) {
        Whose::Patient(id) => Some(id),
        Whose::Linked(links) => one(links.iter().filter_map(patient).collect()).ok().flatten(),
        _ => None,
    }
}

/// System and value of the identifier by which a resource names its patient, if it gives no reference: a logical reference
/// (<https://hl7.org/fhir/R4/references.html#logical>).
pub fn patient_identifier(resource: &Resource) -> Option<(&str, &str)> {
    let element = rule(resource.resource_type())?.named;
    let named = resource.get(element)?.as_object()?;
    let text = |value: &'static str, of: &'static str| named.get(value)?.get(of)?.as_str();
    let is_patient = named.get("type").is_none_or(|stated| stated == "Patient") && !named.contains_key("reference");
    is_patient.then_some((text("identifier", "system")?, text("identifier", "value")?))
}

/// Adds the reference to what names the patient by an identifier.
pub fn name_patient(resource: &mut Resource, id: Uuid) {
    let element = rule(resource.resource_type()).map(|rule| rule.named).unwrap_or_default();
    if let Some(Value::Object(named)) = resource.members_mut().get_mut(element) {
        named.shift_insert(0, "reference".to_owned(), format!("Patient/{id}").into());
    }
}

fn one(patients: BTreeSet<Uuid>) -> Result<Option<Uuid>, Homeless> {
    if patients.len() > 1 { Err(Homeless::Several) } else { Ok(patients.into_iter().next()) }
}

fn patient((resource_type, id): &(String, Uuid)) -> Option<Uuid> {
    (resource_type == "Patient").then_some(*id)
}

/// Whom a reference names.
enum Named {
    Patient(Uuid),
    /// Something that is no patient; where it is, if it is ours.
    Thing(Option<(String, Uuid)>),
    /// Perhaps a patient.
    Somebody,
}

/// What the element says that names whom the resource is about; nothing if it is not there.
fn named_by(resource: &Resource, rule: Rule) -> Option<Whose> {
    let named: Vec<Named> = values(resource, rule.named).into_iter().map(|value| named(resource, value)).collect();
    if named.is_empty() {
        return None;
    }
    let patients = named.iter().filter_map(|named| match named {
        Named::Patient(id) => Some(*id),
        _ => None,
    });
    let things = || {
        named.iter().filter_map(|named| match named {
            Named::Thing(Some(thing)) if !is_directory_type(&thing.0) => Some(thing.clone()),
            _ => None,
        })
    };
    Some(match one(patients.collect()) {
        Err(several) => Whose::Unknown(several),
        Ok(Some(id)) => Whose::Patient(id),
        // Who else takes part in an appointment does not make it theirs.
        Ok(None) if resource.resource_type() == "Appointment" => Whose::Unknown(Homeless::Unnamed),
        Ok(None) if named.iter().any(|named| matches!(named, Named::Somebody)) => Whose::Unknown(Homeless::Unclear),
        Ok(None) if !may_be_nobodys(resource.resource_type()) => Whose::Unknown(Homeless::Unnamed),
        Ok(None) => Whose::About(things().collect()),
    })
}

fn named(resource: &Resource, value: &Value) -> Named {
    let of_type = |name: &str| if name == "Patient" { Named::Somebody } else { Named::Thing(None) };
    let stated = || value.get("type").and_then(Value::as_str).map_or(Named::Somebody, of_type);
    let Some(text) = value.get("reference").and_then(Value::as_str) else { return stated() };
    match Reference::parse(text) {
        Reference::Resource { resource_type, id } if resource_type == "Patient" => Named::Patient(id),
        Reference::Resource { resource_type, id } => Named::Thing(Some((resource_type, id))),
        Reference::Conditional { resource_type, .. } => of_type(&resource_type),
        Reference::Contained(id) => {
            let is_it = |item: &&Value| item.get("id").and_then(Value::as_str) == Some(id.as_str());
            let contained = resource.items("contained").iter().find(is_it);
            contained.and_then(|item| item.get("resourceType")?.as_str()).map_or(Named::Somebody, of_type)
        }
        _ => stated(),
    }
}

/// The resources that these elements lead to.
fn linked(resource: &Resource, elements: &[&str]) -> Vec<(String, Uuid)> {
    let references = elements.iter().flat_map(|element| values(resource, element));
    let texts = references.filter_map(|value| value.get("reference")?.as_str());
    texts
        .filter_map(|text| match Reference::parse(text) {
            Reference::Resource { resource_type, id } => Some((resource_type, id)),
            _ => None,
        })
        .collect()
}

/// The objects at a path of element names, each of which may repeat.
fn values<'a>(resource: &'a Resource, path: &str) -> Vec<&'a Value> {
    let mut names = path.split('.');
    let first = names.next().and_then(|name| resource.get(name));
    let flat = |value: &'a Value| match value {
        Value::Array(items) => items.iter().collect(),
        other => vec![other],
    };
    let first: Vec<&Value> = first.into_iter().flat_map(flat).collect();
    let found =
        names.fold(first, |found, name| found.into_iter().filter_map(|value| value.get(name)).flat_map(flat).collect());
    found.into_iter().filter(|value| value.is_object()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::is_resource_type;
    use super::super::resource_types::RESOURCE_TYPES;
    use super::super::whose::RULES;
    use super::*;

    const ONE: &str = "Patient/057aa36e-b892-9964-75b9-ffb46b097e34";
    const TWO: &str = "Patient/0696ac49-3128-87d3-7344-04510aa4f324";
    const PLACE: &str = "Location/7a2b2f43-7f3b-4d52-8f0e-0a3a1f2d9c77";
    const DEVICE: &str = "Device/ffb3f581-4467-35fb-94c5-e5b0ff9ac59e";

    fn said(json: Value) -> Whose {
        whose(&Resource::parse(json).unwrap())
    }

    fn target(text: &str) -> (String, Uuid) {
        let (resource_type, id) = text.split_once('/').unwrap();
        (resource_type.to_owned(), id.parse().unwrap())
    }

    fn of(text: &str) -> Whose {
        Whose::Patient(target(text).1)
    }

    /// A new type of resource needs a decision before it compiles into anything.
    #[test]
    fn every_type_has_a_decision() {
        assert_eq!(RULES.iter().map(|(name, _)| *name).collect::<Vec<_>>(), RESOURCE_TYPES);
        for (name, rule) in RULES {
            assert!(!rule.directory || is_never_a_patients(name) && may_be_nobodys(name), "{name}");
            assert!(reason_not_kept(name).is_none() || !may_be_nobodys(name), "{name}");
        }
        assert!(FOUND_BY_IDENTIFIER.iter().all(|name| is_resource_type(name) && is_directory_type(name)));
        assert!(!is_directory_type("Patient") && !is_directory_type("Device") && is_directory_type("Medication"));
    }

    #[test]
    fn the_subject_decides_and_nobody_else() {
        let observation = |subject: Value| {
            json!({"resourceType": "Observation", "subject": subject, "performer": [{"reference": ONE}],
                   "focus": [{"reference": ONE}]})
        };
        assert_eq!(said(observation(json!({"reference": TWO}))), of(TWO));
        assert_eq!(said(observation(json!({"reference": PLACE}))), Whose::About(vec![]));
        assert_eq!(said(observation(json!({"reference": DEVICE}))), Whose::About(vec![target(DEVICE)]));
        assert_eq!(said(observation(json!({"type": "Group", "display": "Ward 3"}))), Whose::About(vec![]));
        for unclear in [
            json!({"display": "Jane Doe"}),
            json!({"identifier": {"value": "7"}}),
            json!({"type": "Patient", "display": "x"}),
            json!({"reference": "https://elsewhere.example/Patient/7"}),
            json!({"reference": "#baby"}),
        ] {
            assert_eq!(said(observation(unclear.clone())), Whose::Unknown(Homeless::Unclear), "{unclear}");
        }
        let without = json!({"resourceType": "Observation", "performer": [{"reference": ONE}]});
        assert_eq!(said(without), Whose::Unknown(Homeless::Unnamed));
        assert_eq!(
            said(json!({"resourceType": "Claim", "patient": {"reference": ONE}, "x": {"reference": TWO}})),
            of(ONE)
        );
        // Whoever donated it; and where FHIR knows only patients, another thing is nobody.
        let blood = json!({"resourceType": "BiologicallyDerivedProduct", "collection": {"source": {"reference": TWO}}});
        assert_eq!(said(blood), of(TWO));
        let claim = json!({"resourceType": "Claim", "patient": {"reference": PLACE}});
        assert_eq!(said(claim), Whose::Unknown(Homeless::Unnamed));
    }

    #[test]
    fn what_is_contained_may_be_a_group_but_no_patient_of_ours() {
        let about = |contained: &str| {
            said(json!({"resourceType": "RiskAssessment", "subject": {"reference": "#s"},
                        "contained": [{"resourceType": contained, "id": "s"}]}))
        };
        assert_eq!(about("Group"), Whose::About(vec![]));
        assert_eq!(about("Patient"), Whose::Unknown(Homeless::Unclear));
    }

    #[test]
    fn an_appointment_is_the_patients_among_those_who_come() {
        let with = |actors: &[&str]| {
            let participants: Vec<Value> = actors.iter().map(|actor| json!({"actor": {"reference": actor}})).collect();
            said(json!({"resourceType": "Appointment", "participant": participants, "x": {"reference": ONE}}))
        };
        assert_eq!(with(&[PLACE, TWO]), of(TWO));
        assert_eq!(with(&[PLACE]), Whose::Unknown(Homeless::Unnamed));
        assert_eq!(with(&[ONE, TWO]), Whose::Unknown(Homeless::Several));
    }

    #[test]
    fn what_speaks_of_others_belongs_to_them() {
        let provenance =
            said(json!({"resourceType": "Provenance", "target": [{"reference": DEVICE}, {"reference": PLACE}],
                                     "agent": [{"who": {"reference": ONE}}]}));
        assert_eq!(provenance, Whose::Linked(vec![target(DEVICE), target(PLACE)]));
        let one = Owner::Patient(target(ONE).1);
        let two = Owner::Patient(target(TWO).1);
        let settled = |resource_type: &str, device: Option<Owner>, place: Option<Owner>| {
            settle(resource_type, &provenance, |link| if link.0 == "Device" { device } else { place })
        };
        assert_eq!(settled("Provenance", Some(one), Some(Owner::Nobody)), Ok(one));
        assert_eq!(settled("Provenance", Some(one), Some(one)), Ok(one));
        assert_eq!(settled("Provenance", Some(one), Some(two)), Err(Homeless::Several));
        assert_eq!(settled("Provenance", None, Some(Owner::Nobody)), Ok(Owner::Nobody));
        assert_eq!(settled("Communication", None, Some(Owner::Nobody)), Err(Homeless::Unnamed));
        // Without any link.
        assert_eq!(said(json!({"resourceType": "List"})), Whose::Nobodys);
        assert_eq!(said(json!({"resourceType": "Communication"})), Whose::Unknown(Homeless::Unnamed));
        assert_eq!(
            said(json!({"resourceType": "Subscription"})),
            Whose::Unknown(Homeless::NotKept(reason_not_kept("Subscription").unwrap()))
        );
    }

    #[test]
    fn a_patients_thing_is_not_the_patient() {
        let about = Whose::About(vec![target(DEVICE)]);
        let one = Owner::Patient(target(ONE).1);
        assert_eq!(settle("Observation", &about, |_| Some(one)), Err(Homeless::Thing));
        assert_eq!(settle("Observation", &about, |_| Some(Owner::Nobody)), Ok(Owner::Nobody));
        assert_eq!(settle("Media", &about, |_| Some(one)), Ok(one));
        let relative = Whose::About(vec![("RelatedPerson".to_owned(), target(DEVICE).1)]);
        assert_eq!(settle("AdverseEvent", &relative, |_| Some(one)), Err(Homeless::Thing));
    }

    #[test]
    fn only_what_mentions_nobody_is_open() {
        let open = |json| is_open(&Resource::parse(json).unwrap());
        assert!(open(json!({"resourceType": "Observation", "subject": {"reference": PLACE}})));
        assert!(open(
            json!({"resourceType": "Device", "owner": {"reference": "Organization/057aa36e-b892-9964-75b9-ffb46b097e34"}})
        ));
        assert!(!open(
            json!({"resourceType": "Observation", "subject": {"reference": PLACE}, "x": {"reference": ONE}})
        ));
        assert!(!open(json!({"resourceType": "Group", "member": [{"entity": {"reference": ONE}}]})));
        assert!(!open(json!({"resourceType": "List"})));
    }
}
