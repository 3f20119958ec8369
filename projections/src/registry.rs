//! The one list of read models for each log.

use std::sync::Arc;

use crate::access_grants::AccessGrants;
use crate::access_log::{AccessErasures, AccessLog};
use crate::appointment_follow_up::AppointmentFollowUp;
use crate::appointments::Appointments;
use crate::early_warning::EarlyWarning;
use crate::fhir_resources::FhirResources;
use crate::patient_chart::PatientChart;
use crate::patient_directory::PatientDirectory;
use crate::population::Population;
use crate::read_model::ReadModel;
use crate::timeline::Timeline;
use crate::vital_signs::VitalSigns;
use crate::ward_alerts::WardAlerts;
use crate::ward_census::WardCensus;

/// Every read model of the log of events, in the order in which they are described in the architecture.
pub fn read_models() -> Vec<Arc<dyn ReadModel>> {
    vec![
        Arc::new(AccessGrants),
        Arc::new(PatientDirectory),
        Arc::new(PatientChart),
        Arc::new(VitalSigns),
        Arc::new(Timeline),
        Arc::new(WardCensus),
        Arc::new(Appointments),
        Arc::new(Population),
        Arc::new(FhirResources),
        Arc::new(WardAlerts),
        Arc::new(EarlyWarning),
        Arc::new(AppointmentFollowUp),
        Arc::new(AccessErasures),
    ]
}

/// Every read model of the access log.
pub fn access_read_models() -> Vec<Arc<dyn ReadModel>> {
    vec![Arc::new(AccessLog)]
}

/// Every read model of either log.
pub fn all_read_models() -> Vec<Arc<dyn ReadModel>> {
    read_models().into_iter().chain(access_read_models()).collect()
}

/// Those that give orders.
pub fn reactors() -> Vec<Arc<dyn ReadModel>> {
    read_models().into_iter().filter(|model| model.gives_orders()).collect()
}
