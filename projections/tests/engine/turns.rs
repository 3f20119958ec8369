//! Many partitions and few connections: the others wait without having opened anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use nexus_event_store::Keyring;
use nexus_projections::engine::{Engine, Limits};
use nexus_projections::{ApplyError, Event, ReadModel};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::world::{Toy, World};

/// Connections of a read model, as the engine has them.
const CONNECTIONS: i64 = 3;

/// A toy that counts the events that are looked at and not yet applied.
struct Counting {
    toy: Arc<Toy>,
    open: AtomicI64,
    open_max: AtomicI64,
}

#[async_trait]
impl ReadModel for Counting {
    fn name(&self) -> &'static str {
        self.toy.name()
    }

    fn version(&self) -> i32 {
        1
    }

    fn schema_sql(&self) -> &'static str {
        self.toy.schema_sql()
    }

    fn wants(&self, aggregate_type: &str) -> bool {
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.open_max.fetch_max(open, Ordering::SeqCst);
        self.toy.wants(aggregate_type)
    }

    async fn apply(&self, tx: &mut PgConnection, events: &[Event], keyring: &Keyring) -> Result<(), ApplyError> {
        let applied = self.toy.apply(tx, events, keyring).await;
        self.open.fetch_sub(i64::try_from(events.len()).unwrap(), Ordering::SeqCst);
        applied
    }

    async fn forget(&self, tx: &mut PgConnection, subject: Uuid, keyring: &Keyring) -> Result<u64, ApplyError> {
        self.toy.forget(tx, subject, keyring).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_batches_are_opened_than_can_be_applied() {
    const BATCH: usize = 20;
    let world = World::new(200).await;
    let toy = Toy::named("toy");
    *toy.delay.lock().unwrap() = Duration::from_millis(5);
    world.publish(6_000).await;
    let counting = Arc::new(Counting { toy: toy.clone(), open: AtomicI64::new(0), open_max: AtomicI64::new(0) });
    let mut config = world.config();
    config.limits = Limits { batch_events_max: BATCH, ..config.limits };
    let engine = Engine::start(&config, vec![counting.clone()]);
    world.wait_caught_up(&toy).await;
    world.assert_exact(&toy).await;
    let (open_max, batch) = (counting.open_max.load(Ordering::SeqCst), i64::try_from(BATCH).unwrap());
    assert!((batch..=CONNECTIONS * batch).contains(&open_max), "{open_max} events were open at once");
    engine.stop().await;
    world.gone().await;
}
