//! Finding patients.

use axum::http::StatusCode;
use nexus_auth::Role;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{MRN_SYSTEM, World, patient};

/// The ids that a search finds, best first.
async fn find(world: &World, query: &str) -> Vec<String> {
    let answer = world.get(Role::Registrar, &format!("/v1/patients?{query}")).await;
    answer.items().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn names_are_found_with_a_typo_or_as_they_sound() {
    let world = World::new().await;
    let (chi, jose, steven) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    world
        .record([
            patient(chi, "Cormier289", "Chi716", "1959-07-30"),
            patient(jose, "O'Keefe54", "José-María", "1980-01-02"),
            patient(steven, "Schmidt", "Stephen", "1980-01-02"),
        ])
        .await;
    let table: &[(&str, Uuid)] = &[
        ("Cormier289", chi),
        ("cormier", chi),
        ("CORMIER%20Chi", chi),
        ("Chi716%20Cormier289", chi),
        // Insertion, deletion, substitution, transposition; at both ends and in the middle.
        ("cormiers", chi),
        ("ccormier", chi),
        ("corrmier", chi),
        ("cormie", chi),
        ("ormier", chi),
        ("comier", chi),
        ("carmier", chi),
        ("dormier", chi),
        ("cormiel", chi),
        ("ocrmier", chi),
        ("cromier", chi),
        ("cormire", chi),
        ("cormier298", chi),
        ("jose", jose),
        ("Jos%C3%A9", jose),
        ("josemaria", jose),
        ("okeefe", jose),
        ("O%E2%80%99Keefe", jose),
        ("okefe", jose),
        // Sound.
        ("Steven", steven),
        ("stefan", steven),
        ("Shmitt", steven),
        ("schmid", steven),
    ];
    let mut missed = Vec::new();
    for (name, expected) in table {
        if find(&world, &format!("name={name}")).await.first() != Some(&expected.to_string()) {
            missed.push(*name);
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
    for stranger in ["kalmeir", "miller", "cormier%20miller", "chi%20keefe", "xx"] {
        assert!(find(&world, &format!("name={stranger}")).await.is_empty(), "{stranger}");
    }
}

#[tokio::test]
async fn the_name_itself_goes_before_what_is_near_it() {
    let world = World::new().await;
    let ids: Vec<Uuid> = (0..4).map(|_| Uuid::new_v4()).collect();
    let families = ["Meyer", "Meiers", "Maier", "Meier"];
    world.record(ids.iter().zip(families).map(|(id, family)| patient(*id, family, "Ann", "1980-01-02"))).await;
    let answer = world.get(Role::Registrar, "/v1/patients?name=meier").await;
    let found = answer.items();
    assert_eq!(found.len(), 4);
    assert_eq!(found[0]["id"], ids[3].to_string());
    assert_eq!(found[0]["score"].as_f64(), Some(1.0));
    let scores: Vec<f64> = found.iter().map(|item| item["score"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted_by(|one, other| one >= other) && scores[1] < 1.0, "{scores:?}");
}

#[tokio::test]
async fn numbers_and_dates_are_found_exactly_and_all_that_is_given_must_fit() {
    let world = World::new().await;
    let (one, other) = (Uuid::new_v4(), Uuid::new_v4());
    world.record([patient(one, "Cormier", "Chi", "1959-07-30"), patient(other, "Cormier", "Chi", "1959-07-31")]).await;
    let only = |id: Uuid| vec![id.to_string()];
    assert_eq!(find(&world, &format!("mrn={MRN_SYSTEM}%7CMRN-{one}")).await, only(one));
    assert_eq!(find(&world, &format!("mrn=MRN-{one}")).await, only(one));
    assert_eq!(find(&world, "birthDate=1959-07-31").await, only(other));
    assert_eq!(find(&world, "name=cornier&birthDate=1959-07-30").await, only(one));
    assert_eq!(
        find(&world, &format!("identifier=https://github.com/synthetichealth/synthea%7C{other}")).await,
        only(other)
    );
    assert!(find(&world, &format!("mrn=elsewhere%7CMRN-{one}")).await.is_empty());
    // An identifier is no medical record number.
    assert!(find(&world, &format!("mrn={one}")).await.is_empty());
    assert!(find(&world, &format!("mrn=MRN-{one}&birthDate=1959-07-31")).await.is_empty());
    let answer = world.get(Role::Registrar, &format!("/v1/patients?mrn=MRN-{one}")).await;
    let item = &answer.items()[0];
    assert_eq!(item["name"][0]["family"], "Cormier");
    assert_eq!(item["birthDate"], "1959-07-30");
    assert_eq!(item["deceased"], false);
    assert_eq!(item["identifiers"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_change_is_found_by_the_new_and_not_by_the_old() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    world.record([patient(id, "Cormier", "Chi", "1959-07-30")]).await;
    let married = patient(id, "Kiehn", "Chi", "1959-07-30");
    world.apply(&[world.event("Updated", married.clone(), json!({"notes": []})).await]).await;
    assert!(find(&world, "name=cormier").await.is_empty());
    assert_eq!(find(&world, "name=kiehn").await, [id.to_string()]);

    let mut dead = married;
    dead["deceasedDateTime"] = json!("2020-03-01T10:00:00Z");
    world.apply(&[world.event("Died", dead.clone(), json!({"died_at": "2020-03-01T10:00:00Z"})).await]).await;
    let detail = world.get(Role::Nurse, &format!("/v1/patients/{id}")).await.json();
    assert_eq!((&detail["deceased"], &detail["deceasedAt"]), (&json!(true), &json!("2020-03-01T10:00:00Z")));
    assert_eq!(detail["address"][0]["city"], "Belchertown");
    assert_eq!(detail["sequence"], 3);

    world.apply(&[world.event("EnteredInError", dead, json!({})).await]).await;
    assert!(find(&world, "name=kiehn").await.is_empty());
    let detail = world.get(Role::Nurse, &format!("/v1/patients/{id}")).await.json();
    assert_eq!(detail["enteredInError"], true);
}

#[tokio::test]
async fn pages_of_a_search_hold_everybody_once() {
    let world = World::new().await;
    let mut ids: Vec<String> = Vec::new();
    let mut patients = Vec::new();
    for index in 0..23 {
        let id = Uuid::new_v4();
        ids.push(id.to_string());
        // Many of the same score, and a few of another.
        patients.push(patient(id, if index % 5 == 0 { "Cormiers" } else { "Cormier" }, "Chi", "1959-07-30"));
    }
    world.record(patients).await;
    for limit in [1, 4, 23, 50] {
        let items = world.all_pages(Role::Nurse, "/v1/patients?name=cormier", limit).await;
        let mut found: Vec<String> = items.iter().map(|item: &Value| item["id"].as_str().unwrap().to_owned()).collect();
        found.sort_unstable();
        ids.sort_unstable();
        assert_eq!(found, ids, "in pages of {limit}");
    }
}

#[tokio::test]
async fn searches_that_mean_nothing_are_refused() {
    let world = World::new().await;
    let pointer = |query: &'static str| {
        let world = &world;
        async move {
            let answer = world.get(Role::Nurse, &format!("/v1/patients?{query}")).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
            assert_eq!(answer.problem(), "invalid-parameter", "{query}");
            answer.json()["errors"][0]["pointer"].as_str().unwrap().to_owned()
        }
    };
    assert_eq!(pointer("").await, "name");
    assert_eq!(pointer("name=").await, "name");
    assert_eq!(pointer("name=--").await, "name");
    assert_eq!(pointer("name=a+b+c+d+e+f+g+h+i+j+k+l+m+n+o+p+q+r+s+t+u+v+w+x+y").await, "name");
    assert_eq!(pointer("birthDate=30.7.1959").await, "birthDate");
    assert_eq!(pointer("mrn=%7C").await, "mrn");
    assert_eq!(pointer("identifier=123").await, "identifier");
    assert_eq!(pointer("name=chi&limit=0").await, "limit");
    assert_eq!(pointer("name=chi&limit=501").await, "limit");
    assert_eq!(pointer("name=chi&limit=x").await, "limit");
    assert_eq!(pointer("name=chi&cursor=x").await, "cursor");
    assert_eq!(pointer("name=chi&position=x").await, "position");
    // The unknown parameter is not named: it could be anything.
    assert_eq!(pointer("nmae=chi").await, "query");
}

#[tokio::test]
async fn a_search_that_finds_more_than_it_compares_says_so() {
    let world = World::new().await;
    let namesakes = (0..301).map(|index| {
        let born = if index == 0 { "1959-07-30" } else { "1980-01-02" };
        patient(Uuid::new_v4(), "Cormier", "Chi", born)
    });
    let near = patient(Uuid::new_v4(), "Cornier", "Chi", "1980-01-02");
    world.record(namesakes.chain([near])).await;
    let ask = async |query: &str| {
        let answer = world.get(Role::Nurse, &format!("/v1/patients?{query}")).await;
        (answer.items(), answer.json()["truncated"].clone(), answer.json()["next"].clone())
    };
    let (items, truncated, next) = ask("name=cormier&limit=200").await;
    assert_eq!((items.len(), &truncated), (200, &json!(true)));
    let (rest, truncated, next) = ask(&format!("name=cormier&limit=200&cursor={}", next.as_str().unwrap())).await;
    assert_eq!((truncated, next), (json!(true), Value::Null), "the end of the list is not the end of those who fit");
    // 300 of the namesakes, and who is merely near is not crowded out by them.
    assert_eq!(rest.len(), 101);
    assert_eq!(rest.last().unwrap()["name"][0]["family"], "Cornier");
    let (one, truncated, _) = ask("name=cormier&birthDate=1959-07-30").await;
    assert_eq!((one.len(), truncated), (1, json!(false)));
    let (none, truncated, _) = ask("name=nobody").await;
    assert_eq!((none.len(), truncated), (0, json!(false)));
}

/// The names and numbers of a record as people type them, who see the one and mean the other.
#[tokio::test]
async fn names_of_many_words_scripts_and_marks_are_found() {
    let world = World::new().await;
    let people = [
        ("Ben Youssef Al Haddad de la Torre", "Maria del Pilar"),
        ("حسن\u{200c}زاده", "Parisa"),
        ("D\u{2018}Almeida", "Rui"),
        ("Schro\u{308}ter", "Ilse"),
        ("\u{200e}דוד\u{200e}", "Noam"),
        ("ｽｽﾞｷ", "Ken"),
    ];
    let ids: Vec<Uuid> = people.iter().map(|_| Uuid::new_v4()).collect();
    let named = ids.iter().zip(people).map(|(id, (family, given))| patient(*id, family, given, "1971-05-06"));
    world.record(named).await;
    let table = [
        ("maria del pilar ben youssef al haddad de la torre", 0),
        ("حسنزاده", 1),
        ("حسن زاده parisa", 1),
        ("d'almeida", 2),
        ("DAlmeida rui", 2),
        ("schroeter", 3),
        ("Schröter", 3),
        ("דוד", 4),
        ("スズキ", 5),
        ("すずき", 5),
    ];
    for (name, which) in table {
        let query: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
        let found = find(&world, &format!("name={query}")).await;
        assert_eq!(found.first(), Some(&ids[which].to_string()), "{name}");
    }
}

#[tokio::test]
async fn numbers_with_bars_and_backslashes_are_found() {
    let world = World::new().await;
    let numbers = ["7|31", "7\\31", "A|B|C", "31"];
    let ids: Vec<Uuid> = numbers.iter().map(|_| Uuid::new_v4()).collect();
    let numbered = ids.iter().zip(numbers).map(|(id, number)| {
        let mut person = patient(*id, "Weaver", "Ann", "1971-05-06");
        person["identifier"][1]["value"] = json!(number);
        person
    });
    world.record(numbered).await;
    let asked = [("7|31", 0), ("7\\|31", 0), ("7\\31", 1), ("7\\\\31", 1), ("A|B|C", 2), ("A\\|B\\|C", 2), ("31", 3)];
    for (number, which) in asked {
        for (parameter, text) in [
            ("mrn", format!("{MRN_SYSTEM}|{number}")),
            ("mrn", number.to_owned()),
            ("identifier", format!("{MRN_SYSTEM}|{number}")),
        ] {
            let query: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
            let found = find(&world, &format!("{parameter}={query}")).await;
            assert_eq!(found, [ids[which].to_string()], "{parameter}={text}");
        }
    }
}
