//! Migrated databases that each test copies: a copy takes a tenth of the time of a migration.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Instant;

use nexus_event_store::PARTITIONS_DEFAULT;
use sqlx::{Connection as _, PgConnection, PgPool};

use crate::database::{Kind, url_of};
use crate::servers::postgres_url;
use crate::wait::{DEADLINE, POLL_INTERVAL};

/// Serialises the making of templates among the test programs that run at the same time.
const TEMPLATE_LOCK: i64 = 0x6e65_7875_7374_706c;

/// The name of a migrated database of this kind, made now if nobody has made it.
pub async fn template(kind: Kind) -> String {
    let name = format!("nexus_template_{}_{:016x}", kind.name(), *fingerprint());
    let mut server = PgConnection::connect(&postgres_url()).await.expect("the test server answers");
    sqlx::query("select pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut server).await.expect("a lock");
    let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(&name)
        .fetch_one(&mut server)
        .await
        .expect("the server lists its databases");
    if !exists {
        make(&mut server, kind, &name).await;
    }
    server.close().await.expect("the connection closes and with it the lock");
    name
}

/// Migrated under another name first: a half-made template is never taken for a whole one.
async fn make(server: &mut PgConnection, kind: Kind, name: &str) {
    let draft = format!("{name}_draft");
    execute(server, format!("drop database if exists {draft} with (force)")).await;
    execute(server, format!("create database {draft}")).await;
    let pool = PgPool::connect(&url_of("postgres", &draft)).await.expect("the new database answers");
    match kind {
        Kind::Log => {
            nexus_event_store::migrate_log(&pool, PARTITIONS_DEFAULT).await.expect("the log's schema");
            nexus_event_store::migrate_access_log(&pool, PARTITIONS_DEFAULT).await.expect("the access log's schema");
        }
        Kind::Keys => nexus_event_store::migrate_keys(&pool).await.expect("the keys' schema"),
        Kind::Read => nexus_projections::engine::migrate(&pool).await.expect("the read models' schemas"),
    }
    pool.close().await;
    // A connection that is on its way back while the pool closes stays open as long as the pool is there.
    drop(pool);
    wait_until_left(server, &draft).await;
    execute(server, format!("alter database {draft} rename to {name}")).await;
}

/// The server takes a moment to notice that a connection was closed, and a database in use is not renamed.
async fn wait_until_left(server: &mut PgConnection, database: &str) {
    let started = Instant::now();
    loop {
        let used: bool = sqlx::query_scalar("select exists (select from pg_stat_activity where datname = $1)")
            .bind(database)
            .fetch_one(&mut *server)
            .await
            .expect("the server lists its sessions");
        if !used {
            return;
        }
        assert!(started.elapsed() < DEADLINE, "somebody stays connected to {database}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

pub async fn execute(server: &mut PgConnection, statement: String) {
    sqlx::raw_sql(&statement).execute(server).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

/// Changes with the sources that make the schemas, so that a long-lived server never serves an old template.
fn fingerprint() -> &'static u64 {
    static FINGERPRINT: OnceLock<u64> = OnceLock::new();
    FINGERPRINT.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut hasher = DefaultHasher::new();
        for folder in ["event-store/migrations", "projections/migrations", "projections/src"] {
            hash_folder(&root.join(folder), &mut hasher);
        }
        hasher.finish()
    })
}

fn hash_folder(folder: &Path, hasher: &mut DefaultHasher) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            hash_folder(&path, hasher);
        } else {
            path.hash(hasher);
            std::fs::read(&path).unwrap_or_default().hash(hasher);
        }
    }
}
