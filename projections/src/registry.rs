//! The one list of read models.

use std::sync::Arc;

use crate::access_grants::AccessGrants;
use crate::appointments::Appointments;
use crate::fhir_resources::FhirResources;
use crate::patient_chart::PatientChart;
use crate::patient_directory::PatientDirectory;
use crate::population::Population;
use crate::read_model::ReadModel;
use crate::timeline::Timeline;
use crate::vital_signs::VitalSigns;
use crate::ward_census::WardCensus;

/// Every read model that the platform serves, in the order in which they are described in the architecture.
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
    ]
}
