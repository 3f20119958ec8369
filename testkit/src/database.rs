//! Databases that exist for one test.

use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection as _, PgConnection, PgPool};
use uuid::Uuid;

use crate::cleanup::block_on_thread;
use crate::servers::postgres_url;
use crate::template::{execute, template};

const CONNECTIONS_MAX: u32 = 8;

/// What a database is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Log,
    Keys,
    Read,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Keys => "keys",
            Self::Read => "read",
        }
    }
}

/// A fresh, migrated database; dropped, whoever is still connected, when this value is.
pub struct TestDatabase {
    name: String,
}

impl TestDatabase {
    /// A log without events.
    pub async fn log() -> Self {
        Self::of(Kind::Log).await
    }

    /// A key store without keys.
    pub async fn keys() -> Self {
        Self::of(Kind::Keys).await
    }

    /// Read models without rows.
    pub async fn read() -> Self {
        Self::of(Kind::Read).await
    }

    async fn of(kind: Kind) -> Self {
        let template = template(kind).await;
        let name = format!("test_{}_{}", kind.name(), Uuid::new_v4().simple());
        let mut server = PgConnection::connect(&postgres_url()).await.expect("the test server answers");
        execute(&mut server, format!("create database {name} template {template}")).await;
        server.close().await.expect("the connection closes");
        Self { name }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its URL for one of the services' roles, or for `postgres`.
    pub fn url(&self, role: &str) -> String {
        url_of(role, &self.name)
    }

    /// A pool as the superuser.
    pub async fn pool(&self) -> PgPool {
        self.pool_as("postgres").await
    }

    /// A pool as one of the services' roles, with no more rights than it.
    pub async fn pool_as(&self, role: &str) -> PgPool {
        let options = PgPoolOptions::new().max_connections(CONNECTIONS_MAX);
        options.connect(&self.url(role)).await.unwrap_or_else(|error| panic!("{role} can't connect: {error}"))
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let statement = format!("drop database if exists {} with (force)", self.name);
        block_on_thread(|| async move {
            if let Ok(mut server) = PgConnection::connect(&postgres_url()).await {
                sqlx::raw_sql(&statement).execute(&mut server).await.ok();
            }
        });
    }
}

/// The URL of a database of the test server; every role is believed there.
pub(crate) fn url_of(role: &str, database: &str) -> String {
    let server = postgres_url();
    let (_, place) = server.rsplit_once('@').expect("NEXUS_TEST_POSTGRES reads postgres://ROLE@HOST:PORT/DATABASE");
    let (host, _) = place.split_once('/').expect("NEXUS_TEST_POSTGRES names a database");
    format!("postgres://{role}@{host}/{database}")
}
