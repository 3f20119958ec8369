//! Another program: it reads old events as several, and its read model has other columns. Both programs run side by side, and
//! what is served goes from one to the other and back while events come in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use nexus_domain::{AnyEvent, ReadError};
use nexus_event_store::{Header, Keyring};
use nexus_projections::engine::rebuild::Pace;
use nexus_projections::engine::{Engine, migrate_models, versions};
use nexus_projections::{ApplyError, Event, ReadModel};
use serde_json::Value;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::world::{Toy, World, eventually};

const FAST: Pace = Pace { jobs: 2, share: 100 };

/// The toy of the next program version.
struct NewToy;

#[async_trait]
impl ReadModel for NewToy {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn version(&self) -> i32 {
        2
    }

    fn schema_sql(&self) -> &'static str {
        "create table tallies (subject uuid primary key, events bigint not null, facts bigint not null)"
    }

    /// To this program, what version 1.0 wrote as one event are two.
    fn read(&self, header: &Header, payload: Value) -> Result<Vec<AnyEvent>, ReadError> {
        let events = AnyEvent::parse(&header.aggregate_type, &header.event_type, &header.event_version, payload)?;
        match header.event_version.as_str() {
            "1.0" => Ok([events.clone(), events].concat()),
            _ => Ok(events),
        }
    }

    fn wants(&self, aggregate_type: &str) -> bool {
        aggregate_type == "Condition"
    }

    async fn apply(&self, tx: &mut PgConnection, events: &[Event], _: &Keyring) -> Result<(), ApplyError> {
        let mut tallies = BTreeMap::<Uuid, (i64, i64)>::new();
        let mut last = 0;
        for event in events {
            let (count, facts) = tallies.entry(event.subject).or_default();
            *count += i64::from(event.position != last);
            *facts += 1;
            last = event.position;
        }
        let (subjects, tallies): (Vec<Uuid>, Vec<(i64, i64)>) = tallies.into_iter().unzip();
        let (counts, facts): (Vec<i64>, Vec<i64>) = tallies.into_iter().unzip();
        sqlx::query(
            "insert into tallies as known select * from unnest($1::uuid[], $2::bigint[], $3::bigint[])
             on conflict (subject) do update
             set events = known.events + excluded.events, facts = known.facts + excluded.facts",
        )
        .bind(subjects)
        .bind(counts)
        .bind(facts)
        .execute(tx)
        .await?;
        Ok(())
    }
}

async fn new_rows(world: &World) -> BTreeMap<Uuid, (i64, i64)> {
    let rows: Vec<(Uuid, i64, i64)> =
        sqlx::query_as("select subject, events, facts from toy_v2.tallies").fetch_all(&world.read).await.unwrap();
    rows.into_iter().map(|(subject, events, facts)| (subject, (events, facts))).collect()
}

async fn served(world: &World) -> i32 {
    versions::all(&world.read).await.unwrap().iter().find(|it| it.active).unwrap().version
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_fold_takes_over_under_load_and_gives_back() {
    let world = Arc::new(World::new(30).await);
    let old = Toy::named("toy");
    let new: Arc<dyn ReadModel> = Arc::new(NewToy);
    let old_program = Engine::start(&world.config(), vec![old.clone()]);
    world.publish(2_000).await;
    let enough = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn({
        let (world, enough) = (world.clone(), enough.clone());
        async move {
            while !enough.load(Ordering::Relaxed) {
                world.publish(50).await;
            }
        }
    });
    let more_comes = async || {
        let before = world.history.lock().unwrap().len();
        eventually("the load goes on", async || world.history.lock().unwrap().len() > before + 200).await;
    };

    migrate_models(&world.read, std::slice::from_ref(&new)).await.unwrap();
    assert_eq!(served(&world).await, 1, "a new program changes nothing by being there");
    let new_program = Engine::start(&world.config(), vec![new.clone()]);
    more_comes().await;
    let stop = CancellationToken::new();
    let rebuild = world.rebuild(new.clone(), FAST);
    let running = rebuild.begin().await.unwrap();
    assert_eq!(running.version(), 2);
    running.fill(&stop, |_| {}).await.unwrap();
    let comparison = running.compare(&stop).await.unwrap();
    assert_eq!(comparison.tables[0].columns_apart, ["facts", "trail"]);
    assert_eq!((comparison.tables[0].only_served, comparison.tables[0].only_new), (0, 0), "the rest is the same");
    running.switch(&stop).await.unwrap();
    drop(running);
    more_comes().await;
    let frozen = world.rows_in(&old, 1).await;
    eventually("the new program keeps it level", async || {
        let events: i64 = new_rows(&world).await.values().map(|(events, _)| events).sum();
        events as usize >= world.history.lock().unwrap().len() - 100
    })
    .await;
    assert_eq!(world.rows_in(&old, 1).await, frozen, "the old program has stopped writing");

    // And back: the old program is still there.
    let rebuild = world.rebuild(old.clone(), FAST);
    let running = rebuild.return_to(1).await.unwrap();
    running.fill(&stop, |_| {}).await.unwrap();
    running.switch(&stop).await.unwrap();
    drop(running);
    more_comes().await;
    enough.store(true, Ordering::Relaxed);
    load.await.unwrap();
    world.wait_caught_up(&old).await;
    world.assert_exact(&old).await;

    let rebuild = world.rebuild(new, FAST);
    let running = rebuild.return_to(2).await.unwrap();
    running.switch(&stop).await.unwrap();
    let expected = world.expected(|_| false).into_iter().map(|(subject, (events, _))| (subject, (events, 2 * events)));
    assert_eq!(new_rows(&world).await, expected.collect());
    drop(running);
    old_program.stop().await;
    new_program.stop().await;
    Arc::into_inner(world).unwrap().gone().await;
}
