//! Any event of any aggregate, typed: what a reader of the log makes of a name, a version and a payload.

use cqrs_es::persist::{EventUpcaster, SerializedEvent};
use serde_json::Value;

use crate::alert::Alert;
use crate::allergy::Allergy;
use crate::appointment::Appointment;
use crate::clinical_record::ClinicalRecord;
use crate::condition::Condition;
use crate::consent::Consent;
use crate::directory_entry::DirectoryEntry;
use crate::emergency_access::EmergencyAccess;
use crate::encounter::Encounter;
use crate::exact::from_value;
use crate::fhir::Resource;
use crate::medication_order::MedicationOrder;
use crate::observation::Observation;
use crate::patient::Patient;
use crate::record::{Fact, Record};
use crate::types::Note;

/// An event that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("there is no aggregate type of this name")]
    UnknownAggregate,
    #[error("the payload is not an event of this type and version")]
    Malformed,
}

/// Reads an event of aggregate `A`, whatever version it was written in. One that was written long ago may be several today.
pub fn read<A: Record>(event_type: &str, event_version: &str, payload: Value) -> Result<Vec<A::Event>, ReadError> {
    let payload = upcast(A::upcasters(), A::TYPE, event_type, event_version, payload);
    let payloads = match payload {
        Value::Array(payloads) => payloads,
        payload => vec![payload],
    };
    // The error of serde may quote the payload, so it is dropped.
    let events: Result<Vec<_>, _> = payloads.into_iter().map(from_value).collect();
    events.ok().filter(|events| !events.is_empty()).ok_or(ReadError::Malformed)
}

/// Takes a payload through the upcasters. An event is written as an object; an upcaster that makes several of one gives an
/// array of them, and is the last to touch it.
fn upcast(
    upcasters: Vec<Box<dyn EventUpcaster>>,
    aggregate_type: &str,
    event_type: &str,
    event_version: &str,
    payload: Value,
) -> Value {
    let mut event = SerializedEvent::new(
        String::new(),
        0,
        aggregate_type.to_owned(),
        event_type.to_owned(),
        event_version.to_owned(),
        payload,
        Value::Null,
    );
    for upcaster in upcasters {
        if !event.payload.is_array() && upcaster.can_upcast(&event.event_type, &event.event_version) {
            event = upcaster.upcast(event);
        }
    }
    event.payload
}

macro_rules! any_event {
    ($($aggregate:ident),* $(,)?) => {
        /// Any event of any aggregate.
        #[derive(Clone, Debug, PartialEq)]
        pub enum AnyEvent {
            $($aggregate(<$aggregate as cqrs_es::Aggregate>::Event),)*
            /// An event of another log, which these rules know nothing of: its type, and its payload as it is.
            Foreign(String, Resource),
        }

        impl AnyEvent {
            /// The names of all aggregate types.
            pub const AGGREGATES: &'static [&'static str] = &[$(<$aggregate as cqrs_es::Aggregate>::TYPE),*];

            /// Reads an event from what the envelope held. Old versions are upcast, to several events where they held as
            /// much.
            ///
            /// # Errors
            /// If the aggregate type is unknown or the payload is not such an event.
            pub fn parse(
                aggregate_type: &str,
                event_type: &str,
                event_version: &str,
                payload: Value,
            ) -> Result<Vec<Self>, ReadError> {
                $(if aggregate_type == <$aggregate as cqrs_es::Aggregate>::TYPE {
                    let events = read::<$aggregate>(event_type, event_version, payload)?;
                    return Ok(events.into_iter().map(Self::$aggregate).collect());
                })*
                Err(ReadError::UnknownAggregate)
            }

            /// Takes an event of another log, whose payload is a JSON object, as it is.
            ///
            /// # Errors
            /// If the payload is no object.
            pub fn foreign(event_type: &str, payload: Value) -> Result<Self, ReadError> {
                // The error of serde may quote the payload, so it is dropped.
                let payload = from_value(payload).map_err(|_| ReadError::Malformed)?;
                Ok(Self::Foreign(event_type.to_owned(), payload))
            }

            /// The FHIR resource as it stands after this event; of a foreign one, its payload.
            pub fn resource(&self) -> &Resource {
                match self {
                    $(Self::$aggregate(event) => Fact::resource(event),)*
                    Self::Foreign(_, payload) => payload,
                }
            }

            /// The name of the event, such as `Observation.Recorded`.
            pub fn event_type(&self) -> String {
                match self {
                    $(Self::$aggregate(event) => cqrs_es::DomainEvent::event_type(event),)*
                    Self::Foreign(event_type, _) => event_type.clone(),
                }
            }

            /// Rules that the recorded history breaks.
            pub fn notes(&self) -> &[Note] {
                match self {
                    $(Self::$aggregate(event) => Fact::notes(event),)*
                    Self::Foreign(..) => &[],
                }
            }
        }
    };
}

any_event!(
    Patient,
    Encounter,
    Observation,
    Condition,
    Allergy,
    MedicationOrder,
    Appointment,
    Consent,
    EmergencyAccess,
    Alert,
    ClinicalRecord,
    DirectoryEntry,
);

#[cfg(test)]
mod tests {
    use cqrs_es::persist::SemanticVersionEventUpcaster;
    use serde_json::json;

    use super::*;

    fn apart() -> Vec<Box<dyn EventUpcaster>> {
        let split = |payload: Value| {
            let moved = payload["Transferred"].clone();
            json!([{"Left": moved["from"]}, {"Arrived": moved["to"]}])
        };
        let rename = |_| json!("never reached");
        vec![
            Box::new(SemanticVersionEventUpcaster::new("Encounter.Transferred", "2.0", Box::new(split))),
            Box::new(SemanticVersionEventUpcaster::new("Encounter.Transferred", "3.0", Box::new(rename))),
        ]
    }

    #[test]
    fn an_old_event_can_be_several_today() {
        let old = json!({"Transferred": {"from": "a", "to": "b"}});
        let now = upcast(apart(), "Encounter", "Encounter.Transferred", "1.0", old);
        assert_eq!(now, json!([{"Left": "a"}, {"Arrived": "b"}]));
    }

    #[test]
    fn numbers_are_read_with_the_digits_that_were_written() {
        let payload = r#"{"Filed":{"resource":{"resourceType":"Basic","a":[0.000004,-0,5.50]},"notes":[]}}"#;
        let payload: Value = serde_json::from_str(payload).unwrap();
        let events = AnyEvent::parse("ClinicalRecord", "ClinicalRecord.Filed", "2.0", payload).unwrap();
        let resource = serde_json::to_string(events[0].resource()).unwrap();
        assert_eq!(resource, r#"{"resourceType":"Basic","a":[0.000004,-0,5.50]}"#);
    }

    #[test]
    fn what_is_no_event_is_malformed() {
        for payload in [json!([]), json!([{"Registered": {}}]), json!("x"), json!({"Moved": {}})] {
            assert!(matches!(read::<Patient>("Patient.Registered", "2.0", payload), Err(ReadError::Malformed)));
        }
    }
}
