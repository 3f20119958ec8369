//! Databases, roles and schemas of a stack. Safe to repeat: a later version finds what is there and upgrades it.

use anyhow::{Context, Result};
use nexus_event_store::{Keyring, MasterKey, PARTITIONS_DEFAULT, database_options};
use nexus_local::kafka::{ADMINISTRATOR, Rule, Things};
use nexus_projections::engine::rebuild::Sources;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use super::identity::{KEYCLOAK_DATABASE, KeycloakSecrets};
use super::secrets::{ANALYST, OWNER, SUPERUSER, database_roles};
use super::{ACCESS_TOPIC, IdentityProvider, Secrets, Stack, TOPIC};

const PROJECTOR: &str = "nexus_projector";

/// Each database and the roles that may enter it.
const DATABASES: [(&str, &[&str]); 3] = [
    ("nexus_log", &["nexus_command", "nexus_relay", "nexus_projector", "nexus_query"]),
    ("nexus_keys", &["nexus_command", "nexus_projector", "nexus_query"]),
    ("nexus_read", &["nexus_projector", "nexus_query", "nexus_analyst", "nexus_reactor"]),
];

/// Who may do what in Kafka: the relay alone writes, and each door and the projector read what they fold or compare.
const RULES: [Rule; 5] = [
    Rule { clients: &["relay"], operations: &["Read", "Write"], to: Things::Topics(&[TOPIC, ACCESS_TOPIC]) },
    Rule { clients: &["command-api", "projector"], operations: &["Read"], to: Things::Topics(&[TOPIC, ACCESS_TOPIC]) },
    Rule { clients: &["query-api"], operations: &["Read"], to: Things::Topics(&[ACCESS_TOPIC]) },
    Rule { clients: &["projector"], operations: &["Read"], to: Things::Groups("nexus.") },
    // Who reads the end of a topic is in no group, and asks for one's coordinator nevertheless.
    Rule {
        clients: &["relay", "command-api", "query-api"],
        operations: &["Describe"],
        to: Things::Groups("nexus-tail"),
    },
];

/// Creates what is missing on the server: roles with their passwords, databases with their owner.
pub async fn create(stack: &Stack, secrets: &Secrets) -> Result<()> {
    let pool = connect(stack, secrets, SUPERUSER, "postgres").await?;
    for role in database_roles().into_iter().filter(|role| *role != SUPERUSER) {
        create_role(&pool, role, &secrets.databases[role]).await?;
    }
    for (database, roles) in DATABASES {
        create_database(&pool, database, OWNER, roles).await?;
    }
    if stack.identity_provider() == IdentityProvider::Keycloak {
        create_for_keycloak(stack, &pool).await?;
    }
    pool.close().await;
    Ok(())
}

/// Keycloak owns its database, and enters no other.
async fn create_for_keycloak(stack: &Stack, pool: &PgPool) -> Result<()> {
    let password = KeycloakSecrets::load_or_generate(stack)?.database;
    create_role(pool, KEYCLOAK_DATABASE, &password).await?;
    create_database(pool, KEYCLOAK_DATABASE, KEYCLOAK_DATABASE, &[KEYCLOAK_DATABASE]).await
}

/// Brings all three schemas to this version, as their owner and not as superuser.
pub async fn migrate(stack: &Stack, secrets: &Secrets) -> Result<()> {
    let log = connect(stack, secrets, OWNER, "nexus_log").await?;
    nexus_event_store::migrate_log(&log, PARTITIONS_DEFAULT).await.context("nexus_log")?;
    nexus_event_store::migrate_access_log(&log, PARTITIONS_DEFAULT).await.context("the access log in nexus_log")?;
    let keys = connect(stack, secrets, OWNER, "nexus_keys").await?;
    nexus_event_store::migrate_keys(&keys).await.context("nexus_keys")?;
    let read = connect(stack, secrets, OWNER, "nexus_read").await?;
    nexus_projections::engine::migrate(&read).await.context("nexus_read")?;
    for pool in [log, keys, read] {
        pool.close().await;
    }
    Ok(())
}

pub async fn create_topics(stack: &Stack) -> Result<()> {
    let kafka = stack.kafka_args();
    for topic in [TOPIC, ACCESS_TOPIC] {
        nexus_event_store::kafka::create_topic(&kafka, topic, PARTITIONS_DEFAULT).await?;
    }
    let broker = stack.kafka()?;
    tokio::task::spawn_blocking(move || broker.allow(&RULES)).await?
}

/// How the commands of this program reach a database.
pub fn options(stack: &Stack, secrets: &Secrets, role: &str, database: &str) -> Result<PgConnectOptions> {
    let password = secrets.databases.get(role).map(String::as_str);
    let tls = stack.tls_files(ADMINISTRATOR);
    Ok(database_options(&stack.postgres(secrets).url(role, password, database, Some(&tls)))?)
}

pub async fn connect(stack: &Stack, secrets: &Secrets, role: &str, database: &str) -> Result<PgPool> {
    let pool = PgPoolOptions::new().max_connections(2).connect_with(options(stack, secrets, role, database)?).await;
    pool.with_context(|| format!("can't connect to {database} as {role}"))
}

/// The same with the password that this stack keeps.
pub async fn connect_as(stack: &Stack, role: &str, database: &str) -> Result<PgPool> {
    connect(stack, &Secrets::load(stack)?, role, database).await
}

/// A database of a stack, as the owner of its schemas: for an operator, never for a service.
pub async fn connect_as_owner(stack: &Stack, database: &str) -> Result<PgPool> {
    connect_as(stack, OWNER, database).await
}

/// What rebuilding a read model needs: the read database's owner, and what a projector has.
pub async fn rebuild_sources(stack: &Stack) -> Result<Sources> {
    let secrets = Secrets::load(stack)?;
    let keys = connect(stack, &secrets, PROJECTOR, "nexus_keys").await?;
    let master = MasterKey::from_file(stack.secret_file("master.key"))?;
    Ok(Sources {
        read: options(stack, &secrets, OWNER, "nexus_read")?,
        log: options(stack, &secrets, PROJECTOR, "nexus_log")?,
        keyring: Keyring::connect(keys, master).await.context("nexus_keys")?,
    })
}

/// Said each time: a role that was given more by hand does not keep it.
const NO_MORE_THAN_GRANTED: &str = "nosuperuser nocreatedb nocreaterole nobypassrls noreplication";

async fn create_role(pool: &PgPool, role: &str, password: &str) -> Result<()> {
    let exists: bool = sqlx::query_scalar("select exists (select from pg_roles where rolname = $1)")
        .bind(role)
        .fetch_one(pool)
        .await?;
    let verb = if exists { "alter" } else { "create" };
    // Names are constants of this file and passwords are hexadecimal: nothing here needs quoting.
    execute(pool, format!("{verb} role {role} login {NO_MORE_THAN_GRANTED} password '{password}'")).await?;
    if role == ANALYST {
        // Whoever writes SQL by hand reads only, and not for ever.
        for setting in ["default_transaction_read_only = on", "statement_timeout = '30s'"] {
            execute(pool, format!("alter role {role} set {setting}")).await?;
        }
    }
    Ok(())
}

async fn create_database(pool: &PgPool, database: &str, owner: &str, roles: &[&str]) -> Result<()> {
    let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(database)
        .fetch_one(pool)
        .await?;
    if !exists {
        execute(pool, format!("create database {database} owner {owner}")).await?;
    }
    execute(pool, format!("revoke connect, temporary on database {database} from public")).await?;
    execute(pool, format!("grant connect on database {database} to {}", roles.join(", "))).await
}

async fn execute(pool: &PgPool, statement: String) -> Result<()> {
    sqlx::raw_sql(&statement).execute(pool).await?;
    Ok(())
}
