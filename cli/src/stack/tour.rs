//! What `up` says at the end: what runs where, and three requests that work as printed. It fits a screen, and there is no
//! token in it: what a program prints ends in log files.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nexus_local::Ports;
use sqlx::PgPool;

use super::secrets::{DEMO_ORGANIZATION, DEMO_PATIENT};
use super::{Secrets, Service, Stack, database, status};
use crate::output;

/// The family name of [`DEMO_PATIENT`] as the sample has it.
const DEMO_PATIENT_NAME: &str = "Gaylord332";
const CATCH_UP_DEADLINE: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

pub async fn print(stack: &Stack) -> Result<()> {
    status::print(&status::report(stack).await?);
    output::line(Tour::of(stack)?.text());
    Ok(())
}

/// How to go on, from the folder that `up` was called in.
struct Tour {
    /// How this program is called there.
    nexus: String,
    authority: String,
    write: String,
    read: String,
    has_sample: bool,
}

impl Tour {
    fn of(stack: &Stack) -> Result<Self> {
        let (root, here) = (stack.home.path(""), std::env::current_dir()?.canonicalize()?);
        let seen = |path: &Path| path.strip_prefix(&here).unwrap_or(path).display().to_string();
        let program = if root == here { "./nexus".to_owned() } else { seen(&root.join("nexus")) };
        let options = match stack.ports.base {
            Ports::DEFAULT_BASE => String::new(),
            base => format!(" --port-base {base}"),
        };
        Ok(Self {
            nexus: format!("{program}{options}"),
            authority: seen(&stack.authority_file()),
            write: Service::CommandApi.url(stack.ports),
            read: Service::QueryApi.url(stack.ports),
            has_sample: stack.sample_marker().exists(),
        })
    }

    fn text(&self) -> String {
        let Self { nexus, write, read, .. } = self;
        let places = format!("All requests: {write}/docs and {read}/docs. Stop: `{nexus} down`.");
        if self.has_sample {
            format!(
                "\nThree requests to try (`{nexus} token ROLE` prints a token that is good for an hour):\n\n{}\n\n{places}",
                self.requests()
            )
        } else {
            format!("\nThere are no sample patients: `{nexus} up` loads them, and shows requests about them.\n{places}")
        }
    }

    /// In any shell, typed or pasted: an interactive zsh knows no comments, and an apostrophe would begin a string there.
    fn requests(&self) -> String {
        let Self { nexus, authority, write, read, .. } = self;
        format!(
            r#"CA='{authority}'; AUTH="Authorization: Bearer $({nexus} token nurse)"; JSON='Content-Type: application/json'
# Search a patient by name
curl -sS -w '\n' --cacert "$CA" -H "$AUTH" '{read}/v1/patients?name={DEMO_PATIENT_NAME}'
# Begin an encounter where the nurse works, without which the record stays closed, and read the chart
POSITION=$(curl -sSf --cacert "$CA" -H "$AUTH" -H "$JSON" -o /dev/null -D - {write}/v1/patients/{DEMO_PATIENT}/encounters \
  -d '{{"class": {{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"}}, "organization": "{DEMO_ORGANIZATION}"}}' \
  | tr -d '\r' | sed -n 's/^nexus-position: //Ip')
curl -sS -w '\n' --cacert "$CA" -H "$AUTH" -H "Nexus-Position: $POSITION" {read}/v1/patients/{DEMO_PATIENT}/chart
# Record a heart rate, and see it: the query waits for the position that the command was given
POSITION=$(curl -sSf --cacert "$CA" -H "$AUTH" -H "$JSON" -o /dev/null -D - {write}/v1/patients/{DEMO_PATIENT}/observations \
  -d '{{"code": {{"system": "http://loinc.org", "code": "8867-4"}}, "value": {{"value": 72, "unit": "/min", "code": "/min"}}}}' \
  | tr -d '\r' | sed -n 's/^nexus-position: //Ip')
curl -sS -w '\n' --cacert "$CA" -H "$AUTH" -H "Nexus-Position: $POSITION" '{read}/v1/patients/{DEMO_PATIENT}/vital-signs?code=8867-4&limit=1'"#
        )
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const LINES_MAX: usize = 24;
    const COLUMNS_MAX: usize = 120;

    fn tour(has_sample: bool) -> Tour {
        let (nexus, authority) = ("./nexus".to_owned(), ".nexus/stack-7400/authority.pem".to_owned());
        let (write, read) = ("https://127.0.0.1:7401".to_owned(), "https://127.0.0.1:7402".to_owned());
        Tour { nexus, authority, write, read, has_sample }
    }

    #[test]
    fn what_is_said_fits_a_screen() {
        let requests = tour(true).requests();
        let commands = requests.lines().filter(|line| line.starts_with(char::is_whitespace) || line.contains("curl"));
        // Before it come the services with a line above and one below, and how long it took.
        let all = tour(true).text().lines().count() + Service::ALL.len() - 1 + 4;
        assert!(all - commands.count() <= LINES_MAX, "{all}");
        for line in tour(true).text().lines().chain(tour(false).text().lines()) {
            let is_command = requests.contains(line) && line.contains(['{', '$']);
            assert!(is_command || line.chars().count() <= COLUMNS_MAX, "{line}");
        }
    }

    #[test]
    fn comments_may_be_pasted_into_any_shell() {
        let requests = tour(true).requests();
        let comments: Vec<&str> = requests.lines().filter_map(|line| line.strip_prefix('#')).collect();
        assert_eq!(comments.len(), 3);
        for comment in comments {
            assert!(
                !comment.contains(['\'', '"', '`', '$', ';', '&', '|', '(', ')', '<', '>', '*', '?', '!']),
                "{comment}"
            );
        }
    }

    #[test]
    fn without_patients_there_is_nothing_to_ask_about_them() {
        assert!(!tour(false).text().contains("curl"));
    }
}
