//! What the handlers share: the executor, and the way from a task to an answer.

use std::sync::Arc;
use std::time::Duration;

use nexus_auth::policy::Action;
use nexus_domain::fhir::Resource;
use nexus_event_store::EventLog;
use nexus_web::room::Room;
use uuid::Uuid;

use crate::accepted::Accepted;
use crate::call::Call;
use crate::executor::{Executor, Lean, Standing, Task};
use crate::fhir::{OwnBases, ROOM_BYTES, References};
use crate::forgetting::Forgetting;
use crate::refusal::Refusal;

/// The state of the router. Cheap to clone.
#[derive(Clone)]
pub struct App {
    pub executor: Executor,
    pub references: Arc<References>,
    /// What is left of it for bundles.
    pub room: Room,
    /// What absolute references to this platform begin with.
    pub own: OwnBases,
    pub forgetting: Forgetting,
}

impl App {
    /// `request_timeout` bounds every request.
    pub fn new(log: EventLog, own: OwnBases, request_timeout: Duration) -> Self {
        let references = Arc::new(References::new(log.clone()));
        let executor = Executor::new(log);
        let forgetting = Forgetting::new(executor.clone(), request_timeout);
        Self { references, room: Room::of_bytes(ROOM_BYTES), own, executor, forgetting }
    }

    /// Creates an aggregate of a patient, or a directory entry (whose subject is its own id).
    pub async fn create<A: Lean>(
        &self,
        name: &'static str,
        call: &Call,
        permission: Action,
        subject: Uuid,
        resource: Resource,
    ) -> Result<Accepted, Refusal>
    where
        A::Action: Clone,
    {
        self.create_by::<A>(name, call, permission, subject, resource, A::record).await
    }

    /// Creates an aggregate by a command other than the one that records history.
    pub async fn create_by<A: Lean>(
        &self,
        name: &'static str,
        call: &Call,
        permission: Action,
        subject: Uuid,
        mut resource: Resource,
        command: impl Fn(Resource) -> A::Action,
    ) -> Result<Accepted, Refusal>
    where
        A::Action: Clone,
    {
        let id = resource.id().unwrap_or_else(|| call.new_id());
        resource.set_id(id);
        let subject = if A::ABOUT_A_PATIENT { subject } else { id };
        let creates = Some(resource.resource_type().to_owned());
        let action = command(resource);
        let task = Task {
            name,
            id,
            subject: Some(subject),
            permission,
            creates,
            action: Box::new(move |_: &Standing<A>| Ok(action.clone())),
        };
        self.run(call, task).await
    }

    /// Changes an aggregate that exists.
    pub async fn change<A: Lean>(
        &self,
        name: &'static str,
        call: &Call,
        permission: Action,
        id: Uuid,
        action: A::Action,
    ) -> Result<Accepted, Refusal>
    where
        A::Action: Clone,
    {
        self.change_by::<A>(name, call, permission, id, move |_| Ok(action.clone())).await
    }

    /// Changes an aggregate that exists by a command that is made from how it stands.
    pub async fn change_by<A: Lean>(
        &self,
        name: &'static str,
        call: &Call,
        permission: Action,
        id: Uuid,
        action: impl Fn(&Standing<A>) -> Result<A::Action, Refusal> + Send + Sync + 'static,
    ) -> Result<Accepted, Refusal> {
        self.run(call, Task { name, id, subject: None, permission, creates: None, action: Box::new(action) }).await
    }

    async fn run<A: Lean>(&self, call: &Call, task: Task<A>) -> Result<Accepted, Refusal> {
        let answer = self.executor.execute(call, task).await?;
        Ok(Accepted { answer, prefer: call.prefer })
    }
}
