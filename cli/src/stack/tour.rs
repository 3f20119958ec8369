//! What `up` says at the end: what runs where, tokens, and three requests that work as printed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use sqlx::PgPool;

use super::secrets::{DEMO_ORGANIZATION, DEMO_PATIENT, ROLES};
use super::{Secrets, Service, Stack, database, status};
use crate::{output, token};

/// The family name of [`DEMO_PATIENT`] as the sample has it.
const DEMO_PATIENT_NAME: &str = "Gaylord332";
const CATCH_UP_DEADLINE: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

pub async fn print(stack: &Stack) -> Result<()> {
    status::print(&status::report(stack).await?);
    let nexus = match stack.ports.base {
        nexus_local::Ports::DEFAULT_BASE => "./nexus".to_owned(),
        base => format!("./nexus --port-base {base}"),
    };
    output::line(format_args!(
        "\nTokens of the demo accounts, good for an hour (`{nexus} token ROLE` makes new ones):\n"
    ));
    for role in ROLES {
        output::line(format_args!("  {role:<10}  {}", token::fetch(stack, role).await?.access_token));
    }
    let (write, read) = (Service::CommandApi.url(stack.ports), Service::QueryApi.url(stack.ports));
    let authorization =
        format!(r#"--cacert '{}' -H "Authorization: Bearer $({nexus} token nurse)""#, stack.authority_file().display());
    output::line(format_args!("\nThree requests to try ({write}/docs and {read}/docs have all):\n"));
    output::line("# Search a patient by name");
    output::line(format_args!("curl -sS {authorization} '{read}/v1/patients?name={DEMO_PATIENT_NAME}'\n"));
    output::line(
        "# Start an encounter at the nurse's hospital, without which the record is not theirs to open, and read the chart",
    );
    output::line(format_args!(
        r#"POSITION=$(curl -sS -o /dev/null -D - {authorization} -H 'Content-Type: application/json' \
  -H "Idempotency-Key: $(cat /proc/sys/kernel/random/uuid)" '{write}/v1/patients/{DEMO_PATIENT}/encounters' \
  -d '{{"class": {{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"}}, "organization": "{DEMO_ORGANIZATION}"}}' \
  | tr -d '\r' | sed -n 's/^nexus-position: //Ip')
curl -sS {authorization} -H "Nexus-Position: $POSITION" '{read}/v1/patients/{DEMO_PATIENT}/chart'
"#
    ));
    output::line("# Record a heart rate, and see it: the query waits for the position that the command was given");
    output::line(format_args!(
        r#"POSITION=$(curl -sS -o /dev/null -D - {authorization} -H 'Content-Type: application/json' \
  -H "Idempotency-Key: $(cat /proc/sys/kernel/random/uuid)" '{write}/v1/patients/{DEMO_PATIENT}/observations' \
  -d '{{"code": {{"system": "http://loinc.org", "code": "8867-4", "display": "Heart rate"}}, "value": {{"value": 72, "unit": "beats/minute", "code": "/min"}}}}' \
  | tr -d '\r' | sed -n 's/^nexus-position: //Ip')
curl -sS {authorization} -H "Nexus-Position: $POSITION" '{read}/v1/patients/{DEMO_PATIENT}/vital-signs?code=8867-4&limit=1'"#
    ));
    Ok(())
}

/// Waits until every read model has applied everything that the log holds now.
pub async fn wait_for_read_models(stack: &Stack) -> Result<()> {
    let secrets = Secrets::load(stack)?;
    let log = database::connect(stack, &secrets, "nexus_migrator", "nexus_log").await?;
    let read = database::connect(stack, &secrets, "nexus_migrator", "nexus_read").await?;
    let heads: Vec<(i32, i64)> = sqlx::query_as("select partition, position from heads").fetch_all(&log).await?;
    let started = Instant::now();
    loop {
        let behind = read_models_behind(&read, &heads).await?;
        if behind.is_empty() {
            return Ok(());
        }
        if started.elapsed() > CATCH_UP_DEADLINE {
            bail!("these read models have not caught up: {}", behind.join(", "));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Names of the read models that have not seen these heads of partitions.
pub async fn read_models_behind(read: &PgPool, heads: &[(i32, i64)]) -> Result<Vec<String>> {
    let rows: Vec<(String, i32, i64)> =
        sqlx::query_as("select read_model, partition, position from projection.checkpoints where served")
            .fetch_all(read)
            .await?;
    let positions: HashMap<_, _> =
        rows.into_iter().map(|(name, partition, position)| ((name, partition), position)).collect();
    let has_seen = |name: &str| {
        heads.iter().all(|&(partition, head)| {
            let position = positions.get(&(name.to_owned(), partition)).copied();
            position.unwrap_or_default() >= head
        })
    };
    let models = nexus_projections::read_models();
    let behind = models.iter().filter(|model| !has_seen(model.name()));
    Ok(behind.map(|model| model.name().to_owned()).collect())
}
