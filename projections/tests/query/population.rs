//! Counting people without knowing them.

use nexus_auth::Role;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::chart::condition;
use crate::world::{World, patient};

/// So many patients born in a year, each with a condition of this code.
async fn cohort(world: &World, count: usize, birth_date: &str, code: &str) {
    let mut resources = Vec::new();
    for _ in 0..count {
        let id = Uuid::new_v4();
        resources.push(patient(id, "Cormier", "Chi", birth_date));
        resources.push(condition(Uuid::new_v4(), id, code, "active", "2020-01-01"));
        // The same condition twice is one patient.
        resources.push(condition(Uuid::new_v4(), id, code, "resolved", "2010-01-01"));
    }
    world.record(resources).await;
}

fn told(bands: &Value) -> Vec<Option<i64>> {
    bands.as_array().unwrap().iter().map(|band| band["patients"].as_i64()).collect()
}

async fn conditions(world: &World, query: &str) -> Vec<Value> {
    world.get(Role::Analyst, &format!("/v1/population/conditions?{query}")).await.items()
}

#[tokio::test]
async fn patients_count_once_and_small_groups_are_not_told() {
    let world = World::new().await;
    cohort(&world, 6, "2015-05-05", "asthma").await;
    cohort(&world, 7, "1990-05-05", "asthma").await;
    cohort(&world, 8, "1930-05-05", "asthma").await;
    cohort(&world, 4, "1990-05-05", "rare").await;
    let all = conditions(&world, "").await;
    assert_eq!(all.len(), 2);
    let asthma = &all[0];
    assert_eq!(
        (&asthma["code"], &asthma["patients"], &asthma["suppressed"]),
        (&json!("asthma"), &json!(21), &json!(false))
    );
    // 0-17, 18-39, 40-64, 65-79, 80+, unknown: the three empty ones are too small to be told, and the smallest group is
    // hidden along with them, or what is left of the whole would tell that they are empty.
    assert_eq!(told(&asthma["ageBands"]), [None, Some(7), None, None, Some(8), None]);
    let rare = &all[1];
    assert_eq!((&rare["patients"], &rare["suppressed"]), (&Value::Null, &json!(true)));
    assert_eq!(told(&rare["ageBands"]), [None; 6]);
    assert_eq!(conditions(&world, "code=asthma&system=http://snomed.info/sct").await.len(), 1);
    assert!(conditions(&world, "code=asthma&system=elsewhere").await.is_empty());
    assert_eq!(conditions(&world, "status=resolved&code=asthma").await[0]["patients"], 21);

    let bands = world.get(Role::Analyst, "/v1/population/age-bands").await.json();
    assert_eq!(told(&bands["items"]), [None, Some(11), None, None, Some(8), None]);
}

#[tokio::test]
async fn what_is_refuted_replaced_or_in_error_does_not_count() {
    let world = World::new().await;
    cohort(&world, 5, "1990-05-05", "flu").await;
    let (id, problem) = (Uuid::new_v4(), Uuid::new_v4());
    world
        .record([patient(id, "Cormier", "Chi", "1990-05-05"), condition(problem, id, "flu", "active", "2020-01-01")])
        .await;
    assert_eq!(conditions(&world, "code=flu").await[0]["patients"], 6);
    let mut refuted = condition(problem, id, "flu", "active", "2020-01-01");
    refuted["verificationStatus"] = json!({"coding": [{"code": "refuted"}]});
    world.apply(&[world.event("Refuted", refuted, json!({})).await]).await;
    assert_eq!(conditions(&world, "code=flu").await[0]["patients"], 5);

    let mut linked = patient(id, "Cormier", "Chi", "1990-05-05");
    let survivor = Uuid::new_v4();
    linked["link"] = json!([{"type": "replaced-by", "other": {"reference": format!("Patient/{survivor}")}}]);
    let count = "select count(*) from population_v3.member_age_bands";
    assert_eq!(sqlx::query_scalar::<_, i64>(count).fetch_one(&world.read).await.unwrap(), 6);
    world.apply(&[world.event("LinkedAsDuplicate", linked, json!({"survivor": survivor})).await]).await;
    assert_eq!(sqlx::query_scalar::<_, i64>(count).fetch_one(&world.read).await.unwrap(), 5);
}

#[tokio::test]
async fn pages_hold_every_condition_once() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    let codes = ["a", "B", "c", "Ä", "10", "9", "_"];
    let resources = codes.map(|code| condition(Uuid::new_v4(), id, code, "active", "2020-01-01"));
    world.record([patient(id, "Cormier", "Chi", "1990-05-05")].into_iter().chain(resources)).await;
    for limit in [1, 2, 7] {
        let items = world.all_pages(Role::Analyst, "/v1/population/conditions", limit).await;
        let mut found: Vec<_> = items.iter().map(|item| item["code"].as_str().unwrap()).collect();
        found.dedup();
        assert_eq!(found.len(), codes.len(), "in pages of {limit}");
    }
}

#[tokio::test]
async fn the_tables_know_no_patient() {
    let world = World::new().await;
    let id = Uuid::new_v4();
    let problem = Uuid::new_v4();
    world
        .record([patient(id, "Cormier", "Chi", "1990-05-05"), condition(problem, id, "flu", "active", "2020-01-01")])
        .await;
    let rows: Vec<String> = sqlx::query_scalar(
        "select to_jsonb(m)::text from population_v3.members m union all
         select to_jsonb(c)::text from population_v3.member_conditions c",
    )
    .fetch_all(&world.read)
    .await
    .unwrap();
    assert_eq!(rows.len(), 2);
    for text in [id.simple().to_string(), id.to_string(), problem.simple().to_string(), "1990-05".into(), "2020".into()]
    {
        assert!(!rows.iter().any(|row| row.contains(&text)), "{text} in {rows:?}");
    }
}

/// The rules hold below the API: an analyst who connects to the database finds counts and nothing else.
#[tokio::test]
async fn an_analyst_in_the_database_counts_and_sees_nobody() {
    let world = World::new().await;
    cohort(&world, 6, "1990-05-05", "asthma").await;
    let analyst = world.read_database.pool_as("nexus_analyst").await;
    let counts: Vec<(String, i64)> = sqlx::query_as("select code, patients from population_v3.patients_by_condition")
        .fetch_all(&analyst)
        .await
        .unwrap();
    assert_eq!(counts, [("asthma".to_owned(), 6)]);
    let refused = async |statement: &str| {
        let error = sqlx::query(statement).execute(&analyst).await.unwrap_err();
        error.as_database_error().and_then(|error| error.code()).unwrap().into_owned()
    };
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables
         where schemaname !~ '^(pg_|information_schema)' union select 'population_v3.member_age_bands'",
    )
    .fetch_all(&world.read)
    .await
    .unwrap();
    assert!(tables.len() > 20, "{tables:?}");
    for table in tables {
        assert_eq!(refused(&format!("select * from {table}")).await, "42501", "{table}");
    }
    assert_eq!(refused("create table population_v3.mine ()").await, "25006", "reads only");
    sqlx::query("set default_transaction_read_only = off").execute(&analyst).await.unwrap();
    let limits: String = sqlx::query_scalar("show statement_timeout").fetch_one(&analyst).await.unwrap();
    assert_eq!(limits, "30s");

    // A grant given in error opens a table without rows.
    sqlx::query("grant select on population_v3.members to nexus_analyst").execute(&world.read).await.unwrap();
    let rows: i64 = sqlx::query_scalar("select count(*) from population_v3.members").fetch_one(&analyst).await.unwrap();
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn no_service_is_a_superuser() {
    let world = World::new().await;
    let mighty: Vec<String> = sqlx::query_scalar(
        "select rolname::text from pg_roles where rolname like 'nexus\\_%'
         and (rolsuper or rolcreatedb or rolcreaterole or rolbypassrls or rolreplication)",
    )
    .fetch_all(&world.read)
    .await
    .unwrap();
    assert_eq!(mighty, Vec::<String>::new());
}

#[tokio::test]
async fn who_denies_research_is_not_counted() {
    let world = World::new().await;
    cohort(&world, 5, "1990-05-05", "flu").await;
    let id = Uuid::new_v4();
    let mut consent = json!({"resourceType": "Consent", "id": Uuid::new_v4(), "status": "active",
        "patient": {"reference": format!("Patient/{id}")}, "scope": {"coding": [{"code": "research"}]},
        "category": [{"text": "x"}], "provision": {"type": "deny"}});
    let flu = condition(Uuid::new_v4(), id, "flu", "active", "2020-01-01");
    world.record([patient(id, "Cormier", "Chi", "1990-05-05"), flu, consent.clone()]).await;
    assert_eq!(conditions(&world, "code=flu").await[0]["patients"], 5);
    consent["status"] = json!("inactive");
    world.apply(&[world.event("Withdrawn", consent, json!({"reason": null})).await]).await;
    assert_eq!(conditions(&world, "code=flu").await[0]["patients"], 6);
}

/// 45 CFR 164.514(b)(2)(i)(C): ages over 89, and the years that tell them, are one category.
#[tokio::test]
async fn the_oldest_are_told_apart_by_no_year() {
    let world = World::new().await;
    let ids = ["1901-05-05", "1931-05-05", "1950-05-05"].map(|born| patient(Uuid::new_v4(), "Cormier", "Chi", born));
    let mut dead = patient(Uuid::new_v4(), "Cormier", "Chi", "1880-05-05");
    dead["deceasedDateTime"] = json!("1985-01-01");
    world.record(ids.into_iter().chain([dead])).await;
    let years: Vec<i32> = sqlx::query_scalar("select birth_year from population_v3.members order by birth_year")
        .fetch_all(&world.read)
        .await
        .unwrap();
    assert_eq!(years, [1895, 1936, 1936, 1950], "recorded in 2026");
}

#[tokio::test]
async fn analysts_views_tell_no_small_counts() {
    let world = World::new().await;
    cohort(&world, 6, "1990-05-05", "asthma").await;
    cohort(&world, 4, "2015-05-05", "asthma").await;
    cohort(&world, 4, "1990-05-05", "rare").await;
    let by_condition: Vec<(String, i64)> =
        sqlx::query_as("select code, patients from population_v3.patients_by_condition order by code")
            .fetch_all(&world.read)
            .await
            .unwrap();
    assert_eq!(by_condition, [("asthma".to_owned(), 10)]);
    let by_both: Vec<(String, String, i64)> =
        sqlx::query_as("select code, age_band, patients from population_v3.patients_by_condition_and_age_band")
            .fetch_all(&world.read)
            .await
            .unwrap();
    assert_eq!(by_both, [("asthma".to_owned(), "18-39".to_owned(), 6)]);
}
