//! Whether a caller may see a patient's record, and which parts of it.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use nexus_auth::policy::{
    self, Action, Circumstances, Decision, ResourceContext, Sensitivity, Verdict, decide, depends_on_circumstances,
};
use nexus_auth::{Caller, Role};
use nexus_domain::access::{Asked, Ruling, ruling};
use nexus_web::pipeline::authorize_in;
use nexus_web::problem::Problem;
use uuid::Uuid;

use super::{After, QueryApi};
use crate::access_grants::{self, Grants};

/// One caller before one patient's record, with all that decides between the two.
pub struct Access<'a> {
    caller: &'a Caller,
    action: Action,
    patient: Uuid,
    grants: Grants,
    now: DateTime<Utc>,
}

/// What a row says about itself that decides whether it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    pub resource_type: &'a str,
    /// See [`nexus_domain::access::codes()`].
    pub codes: &'a [String],
    /// As rows keep it: see [`nexus_domain::access::sensitivity()`].
    pub sensitivity: i16,
}

impl QueryApi {
    /// Finds out what decides between caller and patient, and asks whether the record as a whole is open to them. A
    /// withdrawal that the caller shows the position of has been seen by then.
    pub async fn access<'a>(
        &self,
        caller: &'a Caller,
        action: Action,
        patient: Uuid,
        after: &After,
    ) -> Result<Access<'a>, Problem> {
        let access = self.look(caller, action, patient, after).await?;
        access.authorize_record()?;
        Ok(access)
    }

    /// The same for a resource, whose own type, code and sensitivity count.
    pub async fn look<'a>(
        &self,
        caller: &'a Caller,
        action: Action,
        patient: Uuid,
        after: &After,
    ) -> Result<Access<'a>, Problem> {
        let now = Utc::now();
        let grants = if depends_on_circumstances(caller, action) {
            self.wait(access_grants::NAME, after).await?;
            Grants::read(self, caller, patient, now).await?
        } else {
            Grants::default()
        };
        Ok(Access { caller, action, patient, grants, now })
    }

    /// Those among patients of whom the caller may see more than what it takes to tell people apart: all for a registrar,
    /// for others those whom they care for.
    pub async fn known_to(&self, caller: &Caller, patients: &[Uuid]) -> Result<HashSet<Uuid>, Problem> {
        if caller.has(Role::Registrar) {
            return Ok(patients.iter().copied().collect());
        }
        access_grants::related(self, caller, patients, Utc::now()).await
    }
}

impl Access<'_> {
    /// Whether the record as a whole is open to the caller. A question only: the access log does not hear of it.
    pub fn is_open(&self) -> bool {
        let context = ResourceContext::of_subject(self.patient);
        decide(self.caller, self.action, &context, &self.circumstances(None)) == Decision::Allow
    }

    /// The same as a problem where it is not.
    pub fn authorize_record(&self) -> Result<(), Problem> {
        let context = ResourceContext::of_subject(self.patient);
        authorize_in(self.caller, self.action, &context, &self.circumstances(None))
    }

    /// Whether the caller is shown this part of the record.
    pub fn shows(&self, part: &Part<'_>) -> bool {
        let circumstances = self.circumstances(Some(part));
        decide(self.caller, self.action, &self.context(part), &circumstances) == Decision::Allow
    }

    /// The same as a problem where it is not.
    pub fn authorize(&self, part: &Part<'_>) -> Result<(), Problem> {
        authorize_in(self.caller, self.action, &self.context(part), &self.circumstances(Some(part)))
    }

    fn context<'b>(&self, part: &Part<'b>) -> ResourceContext<'b> {
        let sensitivity = Sensitivity::from_level(part.sensitivity);
        ResourceContext::of_subject(self.patient).of_type(part.resource_type).as_sensitive_as(sensitivity)
    }

    fn circumstances(&self, part: Option<&Part<'_>>) -> Circumstances {
        let Grants { relation, emergency, consents } = &self.grants;
        let known = Circumstances { relation: *relation, emergency: *emergency, consent: None };
        let asked = Asked {
            practitioner: self.caller.practitioner(),
            organization: self.caller.organization(),
            purpose: policy::purpose(self.caller, &known).code(),
            resource_type: part.map(|part| part.resource_type),
            codes: part.map(|part| part.codes).unwrap_or_default(),
            sensitivity: part.map(|part| part.sensitivity).unwrap_or_default(),
            now: self.now,
        };
        let consent = ruling(consents, &asked).map(|ruling| match ruling {
            Ruling::Permit => Verdict::Permit,
            Ruling::Deny => Verdict::Deny,
        });
        Circumstances { consent, ..known }
    }
}
