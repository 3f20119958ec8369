//! What this door refuses is in the access log; what it accepts is in the log of events.

use nexus_testkit::{DEADLINE, Role, eventually};
use serde_json::json;

use crate::world::{World, fresh, patient};

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_leaves_a_record_and_a_success_leaves_an_event() {
    let world = World::start().await;
    let id = world.patient().await;
    let refused = world.caller(Role::Analyst).post("/v1/patients", &patient(&fresh("mrn"))).await;
    refused.problem(403, "forbidden");
    let request = refused.header("x-request-id").unwrap().to_owned();
    let batches = eventually("the refusal is recorded", DEADLINE, async || {
        let batches = world.access_batches().await;
        (!batches.is_empty()).then_some(batches)
    })
    .await;
    let opened: Vec<_> = batches.iter().flat_map(|batch| &batch.opened).collect();
    let completed: Vec<_> = batches.iter().flat_map(|batch| &batch.completed).collect();
    assert_eq!((opened.len(), completed.len()), (1, 1), "the registration of {id} is an event, not an access");
    assert_eq!((opened[0].id.to_string(), opened[0].actor.as_str()), (request, "test-analyst"));
    let decision = json!({"action": "RegisterPatient", "decision": "deny"});
    let mut decided = serde_json::to_value(&completed[0].decisions[0]).unwrap();
    decided.as_object_mut().unwrap().shift_remove("subject");
    assert_eq!((decided, completed[0].status), (decision, Some(403)));
}
