//! Any event of any aggregate, typed: what a reader of the log makes of a name, a version and a payload.

use cqrs_es::persist::SerializedEvent;
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

/// Reads an event of aggregate `A`, whatever version it was written in.
pub fn read<A: Record>(event_type: &str, event_version: &str, payload: Value) -> Result<A::Event, ReadError> {
    let mut event = SerializedEvent::new(
        String::new(),
        0,
        A::TYPE.to_owned(),
        event_type.to_owned(),
        event_version.to_owned(),
        payload,
        Value::Null,
    );
    for upcaster in A::upcasters() {
        if upcaster.can_upcast(&event.event_type, &event.event_version) {
            event = upcaster.upcast(event);
        }
    }
    // The error of serde may quote the payload, so it is dropped.
    serde_json::from_value(event.payload).map_err(|_| ReadError::Malformed)
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

            /// Reads an event from what the envelope held. Old versions are upcast.
            ///
            /// # Errors
            /// If the aggregate type is unknown or the payload is not such an event.
            pub fn parse(
                aggregate_type: &str,
                event_type: &str,
                event_version: &str,
                payload: Value,
            ) -> Result<Self, ReadError> {
                $(if aggregate_type == <$aggregate as cqrs_es::Aggregate>::TYPE {
                    return read::<$aggregate>(event_type, event_version, payload).map(Self::$aggregate);
                })*
                Err(ReadError::UnknownAggregate)
            }

            /// Takes an event of another log, whose payload is a JSON object, as it is.
            ///
            /// # Errors
            /// If the payload is no object.
            pub fn foreign(event_type: &str, payload: Value) -> Result<Self, ReadError> {
                // The error of serde may quote the payload, so it is dropped.
                let payload = serde_json::from_value(payload).map_err(|_| ReadError::Malformed)?;
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
