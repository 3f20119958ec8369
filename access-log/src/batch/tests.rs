//! What is stored stays readable for ever.

use nexus_auth::policy::Action;
use serde_json::Value;

use super::*;

#[test]
fn version_1_0_is_read_and_written_as_the_fixture_says() {
    let fixture: Value = serde_json::from_str(include_str!("../fixtures/recorded_v1.0.json")).unwrap();
    let batch: Batch = serde_json::from_value(fixture.clone()).unwrap();
    assert_eq!(batch.opened[0].actor, "dr-yusuf");
    assert_eq!((batch.completed[0].outcome, batch.completed[1].outcome), (Outcome::Success, Outcome::Interrupted));
    let written = serde_json::to_value(&batch).unwrap();
    for (ours, theirs) in [("opened", 0), ("completed", 0), ("opened", 1), ("completed", 1)]
        .map(|(list, at)| (written[list][at].clone(), fixture[list][at].clone()))
    {
        let (ours, theirs) = (ours.as_object().unwrap().clone(), theirs.as_object().unwrap().clone());
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    }
}

#[test]
fn an_action_is_stored_under_its_name() {
    let decided = Decided::of((Action::ReadChart, None, Decision::Hide));
    assert_eq!((decided.action.as_str(), decided.decision.as_str()), ("ReadChart", "hide"));
}
