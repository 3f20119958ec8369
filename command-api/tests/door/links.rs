//! How entries of a bundle name each other, this server, and what is there already; seen in what the log then holds.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{
    NPI, World, bundle, create, create_unless, errors, fhir_observation, fhir_patient, fresh, post_bundle,
    practitioner, statuses,
};

/// An entry that creates something under a full URL of its source.
fn from(base: &str, id: &str, mut resource: Value) -> Value {
    resource["id"] = json!(id);
    let kind = resource["resourceType"].clone();
    let full_url = format!("{base}/{}/{id}", kind.as_str().unwrap_or_default());
    json!({"fullUrl": full_url, "resource": resource, "request": {"method": "POST", "url": kind}})
}

fn put(url: &str, resource: Value) -> Value {
    json!({"resource": resource, "request": {"method": "PUT", "url": url}})
}

/// Type and id of each entry of an answer.
fn places(answer: &nexus_testkit::Answer) -> Vec<(String, Uuid)> {
    let body = answer.json();
    let entries = body["entry"].as_array().cloned().unwrap_or_default();
    let place = |entry: &Value| {
        let location = entry["response"]["location"].as_str()?.to_owned();
        let mut steps = location.split('/');
        Some((steps.next()?.to_owned(), steps.next()?.parse().ok()?))
    };
    entries.iter().filter_map(place).collect()
}

fn name((resource_type, id): &(String, Uuid)) -> String {
    format!("{resource_type}/{id}")
}

/// An observation that names two versions of an encounter.
fn during(subject: &str, one: &str, other: &str) -> Value {
    let mut observation = fhir_observation(Uuid::new_v4(), subject);
    observation["encounter"] = json!({"reference": one});
    observation["partOf"] = json!([{"reference": other}]);
    observation
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn urls_and_narratives_follow_the_entries_that_they_name() {
    let world = World::start().await;
    let (patient, scan) = (Uuid::new_v4(), Uuid::new_v4());
    let (base, page) = ("https://archive.example/r4", "urn:oid:1.3.6.1.4.1.99999.7");
    let secured = |kind: &str| json!({"resourceType": "Binary", "contentType": kind, "securityContext": {"reference": format!("urn:uuid:{patient}")}});
    let letter = json!({
        "resourceType": "DocumentReference", "status": "current", "subject": {"reference": format!("urn:uuid:{patient}")},
        "text": {"status": "additional", "div": format!(
            "<div xmlns=\"http://www.w3.org/1999/xhtml\"><a href=\"Binary/letter-9\">Binary/letter-9</a><img src='{page}'/></div>")},
        "description": "Binary/letter-9",
        "content": [
            {"attachment": {"url": format!("URN:UUID:{}", scan.to_string().to_uppercase())}},
            {"attachment": {"url": "Binary/letter-9#page=2"}},
            {"attachment": {"url": format!("{base}/Binary/letter-9")}},
            {"attachment": {"url": "https://archive.example/r4/Binary/letter-8"}, "format": {"system": page, "code": "x"}}
        ],
        "extension": [{"url": page, "valueUri": page}, {"url": "https://x.example/same", "valueUuid": format!("urn:uuid:{scan}")},
                      {"url": "https://x.example/name", "valueCanonical": page}]
    });
    let entries = [
        create(fhir_patient(patient, &fresh("mrn"))),
        json!({"fullUrl": format!("urn:uuid:{scan}"), "resource": secured("image/png"), "request": {"method": "POST", "url": "Binary"}}),
        from(base, "letter-9", secured("application/pdf")),
        json!({"fullUrl": page, "resource": secured("text/plain"), "request": {"method": "POST", "url": "Binary"}}),
        from(base, "letter-9", letter.clone()),
    ];
    let answer = post_bundle(&world.service(), &bundle("transaction", &entries)).await.expect(200);
    let places = places(&answer);
    let (scanned, written, paged) = (name(&places[1]), name(&places[2]), name(&places[3]));
    let stored = world.resource(&places[4].0, places[4].1).await;
    assert_eq!(places[1].1, scan);
    let urls: Vec<&Value> = (0..4).map(|index| &stored["content"][index]["attachment"]["url"]).collect();
    let part = format!("{written}#page=2");
    assert_eq!(urls, [&json!(scanned), &json!(part), &json!(written), &letter["content"][3]["attachment"]["url"]]);
    assert_eq!(
        stored["text"]["div"],
        format!(
            "<div xmlns=\"http://www.w3.org/1999/xhtml\"><a href=\"{written}\">Binary/letter-9</a><img src='{paged}'/></div>"
        )
    );
    assert_eq!(stored["description"], "Binary/letter-9", "a text is no link");
    let extensions = json!([{"url": page, "valueUri": paged}, letter["extension"][1], letter["extension"][2]]);
    assert_eq!(stored["extension"], extensions);
    assert_eq!(stored["content"][3]["format"], letter["content"][3]["format"], "a code keeps its system");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_of_the_source_becomes_the_one_here_and_ours_stays() {
    let world = World::start().await;
    let service = world.service();
    let base = format!("https://{}.example/fhir", fresh("ehr"));
    let stated = |version: &str, id: &str| {
        let target = format!("Encounter/{version}");
        from(&base, id, during("Patient/p.1", &target, &format!("{base}/{target}")))
    };
    let visit = json!({
        "resourceType": "Encounter", "meta": {"versionId": "17", "lastUpdated": "2026-01-01T00:00:00Z"},
        "status": "finished", "subject": {"reference": "Patient/p.1"},
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"}
    });
    let entries = [
        stated("v-1/_history/17", "a"),
        from(&base, "v-1", visit),
        from(&base, "p.1", fhir_patient(Uuid::new_v4(), &fresh("mrn"))),
    ];
    let answer = post_bundle(&service, &bundle("transaction", &entries)).await.expect(200);
    let places = places(&answer);
    let named =
        |resource: Value| [resource["encounter"]["reference"].clone(), resource["partOf"][0]["reference"].clone()];
    let ours = format!("{}/_history/1", name(&places[1]));
    assert_eq!(named(world.resource("Observation", places[0].1).await), [json!(ours), json!(ours)]);
    let again = post_bundle(&service, &bundle("transaction", &entries)).await.expect(200);
    assert_eq!(statuses(&again), ["200 OK"; 3]);

    // The next night: the encounter has changed, and what names its older version still does.
    let mut newer = entries.clone();
    newer[1]["resource"]["meta"] = json!({"versionId": "18", "lastUpdated": "2026-01-02T00:00:00Z"});
    newer[1]["resource"]["length"] = json!({"value": 20, "unit": "min"});
    let answer = post_bundle(&service, &bundle("transaction", &newer)).await.expect(200);
    assert_eq!(answer.json()["entry"][1]["response"]["etag"], "W/\"2\"");
    assert_eq!(answer.json()["entry"][0]["response"]["etag"], "W/\"1\"");

    // What came before has versions of its own here: which one the source means can't be told.
    let later = post_bundle(&service, &bundle("transaction", &[stated("v-1/_history/16", "b")])).await.expect(200);
    let (_, later_id) = self::places(&later)[0];
    let elsewhere = json!(format!("{base}/Encounter/v-1/_history/16"));
    assert_eq!(named(world.resource("Observation", later_id).await), [json!(name(&places[1])), elsewhere]);
    let note = &later.json()["entry"][0]["response"]["outcome"]["issue"][0]["details"]["coding"][0]["code"];
    assert_eq!(note, "version-elsewhere");

    let shouted = format!("Encounter/{}/_history/1", places[1].1.to_string().to_uppercase());
    let entry = create(during(&name(&places[2]), &ours, &shouted));
    let answer = post_bundle(&service, &bundle("batch", &[entry])).await.expect(200);
    let (_, id) = self::places(&answer)[0];
    assert_eq!(named(world.resource("Observation", id).await), [json!(ours), json!(ours)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sources_may_use_the_same_ids() {
    let world = World::start().await;
    let service = world.service();
    let (north, south) =
        (format!("https://{}.example/fhir", fresh("n")), format!("https://{}.example/fhir", fresh("s")));
    let pair = |base: &str| {
        [
            from(base, "m-5", fhir_observation(Uuid::nil(), "Patient/77")),
            from(base, "77", fhir_patient(Uuid::nil(), &fresh("mrn"))),
        ]
    };
    let pairs = [pair(&north), pair(&south)].concat();
    let entries = pairs.clone();
    let answer = post_bundle(&service, &bundle("transaction", &entries)).await.expect(200);
    assert_eq!(statuses(&answer), ["201 Created"; 4]);
    let places = places(&answer);
    assert_ne!(places[1].1, places[3].1);
    for (measured, patient) in [(0, 1), (2, 3)] {
        let stored = world.resource("Observation", places[measured].1).await;
        assert_eq!(stored["subject"]["reference"], name(&places[patient]));
    }

    // Whoever comes from neither can't mean one of two, and a third source means neither.
    for third in [
        create(fhir_observation(Uuid::new_v4(), "Patient/77")),
        from("https://west.example/fhir", "m-6", fhir_observation(Uuid::nil(), "Patient/77")),
    ] {
        let entries = [pairs.clone(), vec![third]].concat();
        let refused = post_bundle(&service, &bundle("transaction", &entries)).await;
        let refused = errors(&refused.problem(422, "unresolved-reference"));
        assert_eq!(refused, [("/entry/4/resource/subject/reference".to_owned(), "unresolved-reference".to_owned())]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absolute_url_of_ours_is_a_relative_one() {
    let mut world = World::start().await;
    let url = world.another_door_with(&["--fhir-bases=https://read.example/fhir,https://old.example/r4/"]).await;
    let caller = nexus_testkit::Caller::with_token(&url, world.issuer.token(nexus_testkit::Role::Service));
    let patient = world.patient().await;
    world.practitioner("61").await;
    for base in [format!("{url}/fhir"), "https://read.example/fhir".to_owned(), "HTTPS://OLD.example/r4".to_owned()] {
        let mut observation = fhir_observation(Uuid::new_v4(), &format!("{base}/Patient/{patient}"));
        observation["performer"] = json!([{"reference": format!("{base}/Practitioner?identifier={NPI}|61")}]);
        let answer = post_bundle(&caller, &bundle("transaction", &[create(observation)])).await.expect(200);
        let stored = world.resource("Observation", places(&answer)[0].1).await;
        assert_eq!(stored["subject"]["reference"], format!("Patient/{patient}"), "{base}");
        let performer = stored["performer"][0]["reference"].as_str().unwrap_or_default().to_owned();
        assert!(performer.starts_with("Practitioner/"), "{performer}");
    }
    for (base, refused) in [("https://read.example/fhir", true), ("https://read.example:8443/fhir", false)] {
        let mut observation = fhir_observation(Uuid::new_v4(), &format!("Patient/{patient}"));
        observation["performer"] = json!([{"reference": format!("{base}/Practitioner/{}", Uuid::new_v4())}]);
        let answer = post_bundle(&caller, &bundle("transaction", &[create(observation)])).await;
        assert_eq!(answer.status == 422, refused, "{base}: {}", answer.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_under_an_id_of_ones_own_keeps_it() {
    let world = World::start().await;
    let service = world.service();
    let (id, mrn) = (fresh("ward.7-bed"), fresh("mrn"));
    let url = format!("Patient/{id}");
    let patient = |gender: &str| {
        let mut patient = fhir_patient(Uuid::nil(), &mrn);
        (patient["id"], patient["gender"]) = (json!(id), json!(gender));
        put(&url, patient)
    };
    let first = post_bundle(&service, &bundle("transaction", &[patient("female")])).await.expect(200);
    // A full URL does not change where an update goes: to this server.
    let mut elsewhere = patient("other");
    elsewhere["fullUrl"] = json!(format!("https://source.example/fhir/{url}"));
    let second = post_bundle(&service, &bundle("transaction", &[elsewhere])).await.expect(200);
    assert_eq!((places(&first), statuses(&second)), (places(&second), vec!["200 OK".to_owned()]));
    assert_eq!(second.json()["entry"][0]["response"]["etag"], "W/\"2\"");
    let known = name(&places(&first)[0]);

    for reference in [url.clone(), format!("{}/fhir/{url}", world.url), format!("{url}/_history/2")] {
        let answer =
            post_bundle(&service, &bundle("batch", &[create(fhir_observation(Uuid::new_v4(), &reference))])).await;
        let stored = world.resource("Observation", places(&answer.expect(200))[0].1).await;
        let expected = if reference.ends_with("/_history/2") { format!("{known}/_history/2") } else { known.clone() };
        assert_eq!(stored["subject"]["reference"], expected);
    }
    let shouted = Uuid::new_v4();
    let mut upper = fhir_observation(shouted, &url);
    upper["id"] = json!(shouted.to_string().to_uppercase());
    let entry = put(&format!("Observation/{shouted}"), upper);
    let answer = post_bundle(&service, &bundle("transaction", &[entry])).await.expect(200);
    assert_eq!(places(&answer), [("Observation".to_owned(), shouted)]);
    let not_an_id = post_bundle(&service, &bundle("transaction", &[put("Patient/a_b", json!({}))])).await;
    assert_eq!(errors(&not_an_id.problem(422, "invalid-value"))[0].0, "/entry/0/request/url");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identifier_may_stand_for_an_id_in_updates_and_deletions() {
    let world = World::start().await;
    let service = world.service();
    let url = format!("/Practitioner?identifier={}%7C71", NPI.replace(':', "%3A"));
    let doctor = |city: &str| {
        let mut doctor = practitioner("71");
        doctor["address"] = json!([{"city": city}]);
        put(&url, doctor)
    };
    let created = post_bundle(&service, &bundle("transaction", &[doctor("Ghent")])).await.expect(200);
    for (kind, city, version) in [("transaction", "Bruges", 2), ("batch", "Namur", 3)] {
        let mut named = doctor(city);
        named["fullUrl"] = json!("urn:uuid:doctor-who");
        let updated = post_bundle(&service, &bundle(kind, &[named])).await.expect(200);
        assert_eq!((statuses(&updated), places(&updated)), (vec!["200 OK".to_owned()], places(&created)));
        assert_eq!(updated.json()["entry"][0]["response"]["etag"], format!("W/\"{version}\""));
    }
    let (_, id) = places(&created)[0];
    assert_eq!(world.resource("Practitioner", id).await["address"][0]["city"], "Namur");

    let mut other = practitioner("72");
    other["id"] = json!(id);
    let astray = put(&format!("Practitioner?identifier={NPI}|72"), other);
    post_bundle(&service, &bundle("transaction", &[astray])).await.problem(409, "rule-violated");
    let delete = json!({"request": {"method": "DELETE", "url": format!("Practitioner?identifier={NPI}|73")}});
    let refused = post_bundle(&service, &bundle("transaction", &[delete])).await;
    assert_eq!(errors(&refused.problem(422, "invalid-value"))[0].1, "unknown-resource");
    for bad in ["Practitioner?name=x", "Observation?identifier=a|b", "Practitioner?identifier=|71"] {
        let refused = post_bundle(&service, &bundle("transaction", &[put(bad, practitioner("71"))])).await;
        assert_eq!(errors(&refused.problem(422, "invalid-value"))[0].1, "unsupported-request", "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_condition_twice_makes_one_and_its_encodings_are_one() {
    let world = World::start().await;
    let service = world.service();
    let patient = world.patient().await;
    let number = "A|B+C 9,1";
    let clinic = || {
        let identifier = json!([{"system": "urn:clinics", "value": number}]);
        json!({"resourceType": "Organization", "id": Uuid::new_v4(), "name": "Clinic", "identifier": identifier})
    };
    let escaped = r"identifier=urn:clinics|A\|B+C 9\,1";
    let encoded = "identifier=urn%3Aclinics%7CA%5C%7CB%2BC+9%2C1";
    let (one, two) = (clinic(), clinic());
    let by = |reference: &str| {
        let mut observation = fhir_observation(Uuid::new_v4(), &format!("Patient/{patient}"));
        observation["performer"] = json!([{"reference": reference}]);
        create(observation)
    };
    let urn = |clinic: &Value| format!("urn:uuid:{}", clinic["id"].as_str().unwrap_or_default());
    let entries = [
        by(&urn(&one)),
        by(&urn(&two)),
        by(&format!("Organization?{encoded}")),
        create_unless(one, escaped),
        create_unless(two, encoded),
    ];
    let answer = post_bundle(&service, &bundle("transaction", &entries)).await.expect(200);
    assert_eq!(statuses(&answer), ["201 Created", "201 Created", "201 Created", "201 Created", "200 OK"]);
    let places = places(&answer);
    assert_eq!(places[3], places[4]);
    let later = post_bundle(&service, &bundle("batch", &[by(&format!("Organization?{escaped}"))])).await.expect(200);
    for (_, observation) in places.iter().take(3).chain(&self::places(&later)) {
        let stored = world.resource("Observation", *observation).await;
        assert_eq!(stored["performer"][0]["reference"], name(&places[3]));
    }
    let further = by(&format!("Organization?{encoded}&active=true"));
    post_bundle(&service, &bundle("transaction", &[further])).await.problem(422, "invalid-value");
}

/// What a definition is called does not change with the place where it is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_name_of_a_definition_is_no_link() {
    let world = World::start().await;
    let url = "https://terms.example/ValueSet/scale";
    let set = json!({"resourceType": "ValueSet", "id": "scale", "url": url, "status": "active"});
    let mut entry = json!({"fullUrl": url, "resource": set, "request": {"method": "POST", "url": "ValueSet"}});
    let questions = json!({
        "resourceType": "Questionnaire", "id": Uuid::new_v4(), "status": "active", "derivedFrom": [url],
        "extension": [{"url": "https://x.example/scale", "valueUri": url}]
    });
    for (kept, other) in [(true, "scale"), (false, "scale-2")] {
        let mut questions = questions.clone();
        questions["id"] = json!(Uuid::new_v4());
        entry["resource"]["id"] = json!(other);
        entry["resource"]["url"] = if kept { json!(url) } else { json!("https://terms.example/other") };
        entry["fullUrl"] = json!(url.replace("scale", other));
        if !kept {
            questions["extension"][0]["valueUri"] = entry["fullUrl"].clone();
        }
        let entries = [entry.clone(), create(questions.clone())];
        let answer = post_bundle(&world.service(), &bundle("transaction", &entries)).await.expect(200);
        let places = places(&answer);
        let stored = world.resource("Questionnaire", places[1].1).await;
        let expected = if kept { json!(url) } else { json!(name(&places[0])) };
        assert_eq!(stored["extension"][0]["valueUri"], expected);
        assert_eq!(stored["derivedFrom"], questions["derivedFrom"]);
    }
}

/// Where the entries are is said nowhere else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minimal_answer_tells_where_everything_is() {
    let world = World::start().await;
    for (kind, prefer) in [("transaction", "return=minimal"), ("batch", "Return=\"minimal\"; x=\"a,b\"")] {
        let mut anybody = fhir_patient(Uuid::nil(), &fresh("mrn"));
        anybody.as_object_mut().expect("an object").remove("id");
        let sent = bundle(kind, &[json!({"resource": anybody, "request": {"method": "POST", "url": "Patient"}})]);
        let service = world.service();
        let request = service.request(reqwest::Method::POST, "/fhir").header("idempotency-key", fresh("key"));
        let answer = request.header("prefer", prefer).json(&sent).answer().await.expect(200);
        assert_eq!(answer.header("preference-applied"), Some("return=minimal"));
        assert_eq!(answer.json()["type"], format!("{kind}-response"));
        assert_eq!(places(&answer).len(), 1, "{kind}");
    }
}
