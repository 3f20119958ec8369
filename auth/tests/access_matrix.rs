//! `docs/access-matrix.md` says what the policy does. Run with `NEXUS_UPDATE=1` to write it anew.

use std::fmt::Write as _;
use std::path::Path;

use nexus_auth::Role;
use nexus_auth::policy::Decision;
use nexus_auth::testing::{Door, ROUTES, Route, Standing};

const ABOUT: &str = "# Who may do what

Made from the policy (`auth/src/policy/`) by `NEXUS_UPDATE=1 cargo test --release -p nexus-auth --test access_matrix`; a test
fails when it is out of date, and others when a door has a route that is not in it or answers otherwise. The reasons are in
[ADR 11](adr/0011-who-may-see-a-record.md).

| mark | meaning |
|---|---|
| `+` | allowed |
| `c` | allowed in a care relationship (own or of one's organization); without one 403 `no-care-relationship` |
| `o` | allowed on one's own record; anybody else's does not exist (404) |
| `.` | refused (403) |

A physician who has broken the glass is in a care relationship for that time. Scopes only limit: a token with any SMART scope
needs one that covers the last column, `patient/`, `user/` or `system/` before it. An erased patient answers those who may
(`+`, `c`) with 404 or 403 at the read door and 409 `subject-erased` at the write door; patients get 404 for others.

What is labelled restricted (`R`, or a sensitivity code) is shown to nurses and physicians who take part in the care
themselves, `V` to such physicians; both to the patient and under broken glass. In lists it leaves no trace, by itself it is 404.

## Exceptions

- `GET /v1/patients` and `GET /v1/patients/{id}` show nurses, physicians and pharmacists without a care relationship who the
  patient is (name, birth date, gender) and leave out the rest (`limited`): one has to find a patient to care for them.
- Starting an encounter and booking an appointment need no relationship: they begin it.
- `GET /v1/census`, `GET /v1/wards/{location}/census`, `GET /v1/wards/{location}/alerts` and `GET /v1/practitioners/{id}/appointments` show names of patients to
  roles that work with the list as such.
- `service` sees whatever it may import, restricted parts included.
- Directory entries (`GET /fhir/Practitioner/…`) are open to every role but analyst, operator and reactor.

";

#[test]
fn the_document_says_what_the_policy_does() {
    let mut text = ABOUT.to_owned();
    for (title, door) in [("Write door", Door::Write), ("Read door", Door::Read), ("Projector", Door::Projector)] {
        let names = Role::ALL.map(Role::as_str).join(" | ");
        writeln!(text, "## {title}\n\n| route | {names} | scope |\n|---|{}---|", "---|".repeat(Role::ALL.len()))
            .unwrap();
        for route in ROUTES.iter().filter(|route| route.door == door) {
            let marks = Role::ALL.map(|role| format!("`{}`", mark(route, role))).join(" | ");
            writeln!(text, "| `{}` | {marks} | {} |", route.name, route.scopes()).unwrap();
        }
        text.push('\n');
    }
    let text = text.trim_end().to_owned() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/access-matrix.md");
    if std::env::var_os("NEXUS_UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert!(std::fs::read_to_string(&path).unwrap() == text, "run this test with NEXUS_UPDATE=1");
}

fn mark(route: &Route, role: Role) -> char {
    use Decision::{Allow, Deny, Hide, Unrelated};
    match Standing::ALL.map(|standing| route.expected(role, standing)) {
        [Allow, Allow, Allow, Allow] => '+',
        [Unrelated, Allow, Allow, Unrelated] => 'c',
        [Allow, Hide, Hide, Hide] => 'o',
        [Deny, Deny, Deny, Deny] => '.',
        other => panic!("{} {role}: {other:?} has no mark", route.name),
    }
}
