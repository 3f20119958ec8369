//! Owners of yesterday, and two who both believe that a partition is theirs.

use nexus_projections::engine::checkpoint::{Anchor, Name, Ownership, Purpose, advance, take};
use nexus_projections::engine::{Engine, EngineConfig};

use crate::world::{Toy, World, eventually};

const NAME: Name<'_> = Name { read_model: "toy", version: 1 };

fn moved(from: &Ownership, by: i64) -> Ownership {
    let position = from.position + by;
    Ownership { position, anchor: Some(Anchor { offset: position - 1, position }), ..*from }
}

#[tokio::test]
async fn an_owner_of_yesterday_changes_zero_rows() {
    let world = World::new(1).await;
    let (_, zombie) = take(&world.read, NAME, Purpose::Serve, &[3], "first").await.unwrap()[0];
    let (_, owner) = take(&world.read, NAME, Purpose::Serve, &[3], "second").await.unwrap()[0];
    assert_eq!((zombie.epoch, owner.epoch), (1, 2));
    let mut connection = world.read.acquire().await.unwrap();
    // The position is still the one that the zombie knows; only the epoch tells them apart.
    let refused = advance(&mut connection, NAME, 3, &zombie, &moved(&zombie, 5)).await.unwrap();
    assert_eq!(refused, None, "the checkpoint moved for an owner of yesterday");
    assert_eq!(advance(&mut connection, NAME, 3, &owner, &moved(&owner, 5)).await.unwrap(), Some(0));
    drop(connection);
    world.gone().await;
}

#[tokio::test]
async fn a_checkpoint_moves_only_from_where_its_owner_left_it() {
    let world = World::new(1).await;
    let (_, owner) = take(&world.read, NAME, Purpose::Serve, &[0], "owner").await.unwrap()[0];
    let mut connection = world.read.acquire().await.unwrap();
    assert_eq!(advance(&mut connection, NAME, 0, &owner, &moved(&owner, 5)).await.unwrap(), Some(0));
    assert_eq!(advance(&mut connection, NAME, 0, &owner, &moved(&owner, 7)).await.unwrap(), None, "repeated");
    let ahead = moved(&owner, 9);
    assert_eq!(advance(&mut connection, NAME, 0, &ahead, &moved(&ahead, 1)).await.unwrap(), None, "skipped");
    drop(connection);
    let (_, taken) = take(&world.read, NAME, Purpose::Serve, &[0], "next").await.unwrap()[0];
    assert_eq!((taken.epoch, taken.position), (2, 5));
    assert_eq!(taken.anchor, Some(Anchor { offset: 4, position: 5 }));
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_groups_fighting_over_the_same_partitions_apply_every_event_once() {
    let world = World::new(60).await;
    let toy = Toy::named("toy");
    let other = EngineConfig { group_prefix: format!("{}.other.", world.name), ..world.config() };
    let engines = [Engine::start(&world.config(), vec![toy.clone()]), Engine::start(&other, vec![toy.clone()])];
    // The first two epochs are their first takings; the third is one of them taking a partition back.
    eventually("they fight", async || {
        world.publish(300).await;
        let epoch: Option<i64> =
            sqlx::query_scalar("select max(epoch) from projection.checkpoints").fetch_one(&world.read).await.unwrap();
        epoch > Some(2)
    })
    .await;
    world.wait_caught_up(&toy).await;
    world.assert_exact(&toy).await;
    for engine in engines {
        engine.stop().await;
    }
    world.gone().await;
}
