//! The verified identity behind a request.

use std::{collections::BTreeSet, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Whoever stands behind a verified token. Only the verifier builds one, so a `Caller` in hand means a checked signature.
#[derive(Clone, PartialEq, Eq)]
pub struct Caller(Arc<Identity>);

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub id: String,
    pub roles: BTreeSet<Role>,
    pub patient: Option<Uuid>,
    pub practitioner: Option<Uuid>,
    pub organization: Option<Uuid>,
    pub scopes: Vec<String>,
    pub client_id: Option<String>,
    pub expires_at: i64,
}

/// What a caller works as. A token may carry several; each adds what it allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Admits people: registers patients, keeps their demographics, books appointments.
    Registrar,
    /// Cares for patients on a ward.
    Nurse,
    /// Treats patients: diagnoses, prescribes, records a death.
    Physician,
    /// Looks after medication orders.
    Pharmacist,
    /// A person reading their own record.
    Patient,
    /// Reviews what happened to a record.
    Auditor,
    /// Counts, and never sees an identity.
    Analyst,
    /// Runs the platform, and sees no patient data.
    Operator,
    /// Another system, such as the importer.
    Service,
    /// The process of ours that carries out what follows from what is recorded.
    Reactor,
}

impl Role {
    /// Every role, in the order in which documents list them.
    pub const ALL: [Role; 10] = [
        Role::Registrar,
        Role::Nurse,
        Role::Physician,
        Role::Pharmacist,
        Role::Patient,
        Role::Auditor,
        Role::Analyst,
        Role::Operator,
        Role::Service,
        Role::Reactor,
    ];

    /// The name that stands in the `roles` claim.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Registrar => "registrar",
            Role::Nurse => "nurse",
            Role::Physician => "physician",
            Role::Pharmacist => "pharmacist",
            Role::Patient => "patient",
            Role::Auditor => "auditor",
            Role::Analyst => "analyst",
            Role::Operator => "operator",
            Role::Service => "service",
            Role::Reactor => "reactor",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The text names no role.
#[derive(Debug, thiserror::Error)]
#[error(
    "no such role; the roles are registrar, nurse, physician, pharmacist, patient, auditor, analyst, operator, service, reactor"
)]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(name: &str) -> Result<Self, UnknownRole> {
        Role::ALL.into_iter().find(|role| role.as_str() == name).ok_or(UnknownRole)
    }
}

impl Caller {
    pub(crate) fn new(identity: Identity) -> Self {
        Self(Arc::new(identity))
    }

    /// The token's `sub`: who acts, as the issuer names them.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The roles of the token that this platform knows. Unknown ones are left out: they allow nothing here.
    pub fn roles(&self) -> &BTreeSet<Role> {
        &self.0.roles
    }

    /// Whether the caller has this role.
    pub fn has(&self, role: Role) -> bool {
        self.0.roles.contains(&role)
    }

    /// The patient record that is the caller's own, from the `patient` claim.
    pub fn patient(&self) -> Option<Uuid> {
        self.0.patient
    }

    /// The practitioner of the directory that the caller is, from the `fhirUser` claim (SMART App Launch 2.2).
    pub fn practitioner(&self) -> Option<Uuid> {
        self.0.practitioner
    }

    /// The organization of the directory that the caller works for, from the `organization` claim.
    pub fn organization(&self) -> Option<Uuid> {
        self.0.organization
    }

    /// The scopes of the token, in its order.
    pub fn scopes(&self) -> &[String] {
        &self.0.scopes
    }

    /// The client that obtained the token (`client_id`, or `azp` where a provider writes that).
    pub fn client_id(&self) -> Option<&str> {
        self.0.client_id.as_deref()
    }

    /// When the token ends, in seconds since 1970.
    pub fn expires_at(&self) -> i64 {
        self.0.expires_at
    }

    /// The role names, as event metadata records them.
    pub fn role_names(&self) -> Vec<String> {
        self.0.roles.iter().map(|role| role.as_str().to_owned()).collect()
    }
}

/// Shows the roles only: an id may be a person's name, and `Debug` ends up in logs.
impl fmt::Debug for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Caller").field("roles", &self.0.roles).finish_non_exhaustive()
    }
}
