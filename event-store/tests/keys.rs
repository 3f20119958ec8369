//! Envelopes and keys: what opens, what does not, and what never comes back.
#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use common::{World, append, appended, event};
use nexus_event_store::envelope::{open, open_event, seal};
use nexus_event_store::{
    EnvelopeError, Error, EventLog, Header, KeyError, Keyring, LogConfig, LogReader, MasterKey, SubjectKey,
};
use proptest::prelude::*;
use uuid::Uuid;

fn header(key: &SubjectKey) -> Header {
    Header {
        aggregate_type: "Patient".into(),
        aggregate_id: Uuid::new_v4(),
        sequence: 3,
        subject: key.subject(),
        event_type: "Patient.Updated".into(),
        event_version: "1.0".into(),
        key_id: key.id(),
        recorded_at: chrono::Utc::now(),
        traceparent: None,
    }
}

proptest! {
    #[test]
    fn what_is_sealed_opens(plain in proptest::collection::vec(any::<u8>(), 0..4_000)) {
        let key = SubjectKey::generate(Uuid::new_v4());
        let header = header(&key);
        let sealed = seal(&key, &header, &plain);
        prop_assert_eq!(open(&key, &header, &sealed), Ok(plain.clone()));
        prop_assert_ne!(seal(&key, &header, &plain), sealed.clone(), "each seal has its own nonce");
        if plain.len() >= 8 {
            prop_assert!(!sealed.windows(plain.len()).any(|window| window == plain));
        }
    }

    #[test]
    fn changed_bytes_never_open(at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let key = SubjectKey::generate(Uuid::new_v4());
        let header = header(&key);
        let mut sealed = seal(&key, &header, b"text of a patient");
        let at = at.index(sealed.len());
        sealed[at] ^= flip;
        prop_assert!(open(&key, &header, &sealed).is_err());
        prop_assert!(open(&key, &header, &sealed[..at]).is_err());
    }
}

/// One test per bound field: the envelope of one event under the header of another that differs in that field alone.
macro_rules! bound_fields {
    ($($name:ident: $change:expr, $error:ident;)*) => {$(
        #[test]
        fn $name() {
            let key = SubjectKey::generate(Uuid::new_v4());
            let original = header(&key);
            let mut changed = original.clone();
            let change: fn(&mut Header) = $change;
            change(&mut changed);
            assert_ne!(changed, original);
            let sealed = seal(&key, &original, b"{}");
            assert_eq!(open(&key, &original, &sealed), Ok(b"{}".to_vec()));
            assert_eq!(open(&key, &changed, &sealed), Err(EnvelopeError::$error));
        }
    )*};
}

bound_fields! {
    an_event_of_another_aggregate_type_does_not_open: |header| header.aggregate_type = "Consent".into(), Broken;
    an_event_of_another_aggregate_does_not_open: |header| header.aggregate_id = Uuid::new_v4(), Broken;
    an_event_at_another_sequence_does_not_open: |header| header.sequence += 1, Broken;
    an_event_of_another_type_does_not_open: |header| header.event_type = "Patient.Registered".into(), Broken;
    an_event_of_another_version_does_not_open: |header| header.event_version = "2.0".into(), Broken;
    an_event_of_another_subject_does_not_open: |header| header.subject = Uuid::new_v4(), Broken;
    an_event_under_another_key_id_does_not_open: |header| header.key_id = Uuid::new_v4(), OtherKey;
}

#[test]
fn text_does_not_slide_from_one_field_into_the_next() {
    let key = SubjectKey::generate(Uuid::new_v4());
    let mut original = header(&key);
    (original.event_type, original.event_version) = ("Patient.Updated1".into(), ".0".into());
    let sealed = seal(&key, &original, b"{}");
    (original.event_type, original.event_version) = ("Patient.Updated".into(), "1.0".into());
    assert_eq!(open(&key, &original, &sealed), Err(EnvelopeError::Broken));
}

#[test]
fn another_key_does_not_open_and_debug_shows_none() {
    let subject = Uuid::new_v4();
    let (key, other) = (SubjectKey::generate(subject), SubjectKey::generate(subject));
    let original = header(&key);
    let sealed = seal(&key, &original, b"{}");
    assert_eq!(open(&other, &original, &sealed), Err(EnvelopeError::OtherKey));
    let relabelled = Header { key_id: other.id(), ..original };
    assert_eq!(open(&other, &relabelled, &sealed), Err(EnvelopeError::OtherKey));
    assert!(format!("{key:?}").contains("redacted"));
    assert_eq!(format!("{:?}", MasterKey::random()), "MasterKey([redacted])");
}

#[test]
fn the_envelope_is_a_cose_encrypt0_that_names_its_key() {
    use coset::TaggedCborSerializable;
    let key = SubjectKey::generate(Uuid::new_v4());
    let envelope = coset::CoseEncrypt0::from_tagged_slice(&seal(&key, &header(&key), b"{}")).unwrap();
    assert_eq!(envelope.unprotected.key_id, key.id().as_bytes());
    assert_eq!(envelope.unprotected.iv.len(), 12);
    let a256gcm = coset::RegisteredLabelWithPrivate::Assigned(coset::iana::Algorithm::A256GCM);
    assert_eq!(envelope.protected.header.alg, Some(a256gcm));
}

#[test]
fn a_key_file_is_private_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("master.key");
    MasterKey::generate_file(&path).unwrap();
    MasterKey::from_file(&path).unwrap();
    assert!(MasterKey::generate_file(&path).is_err(), "an existing key is never overwritten");
    for mode in [0o640, 0o604, 0o660] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(matches!(MasterKey::from_file(&path), Err(Error::MasterKeyFile(_))));
    }
    let short = folder.path().join("short.key");
    std::fs::write(&short, "00ff").unwrap();
    std::fs::set_permissions(&short, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(MasterKey::from_file(&short), Err(Error::MasterKeyFile(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_processes_agree_on_the_keys_of_a_fresh_store() {
    let world = World::new().await;
    let connecting: Vec<_> =
        (0..8).map(|_| tokio::spawn(Keyring::connect(world.keys_as("nexus_command"), world.master.clone()))).collect();
    let mut keyrings = Vec::new();
    for keyring in connecting {
        keyrings.push(keyring.await.unwrap().unwrap());
    }
    let subjects: Vec<_> = (0..50).map(|_| Uuid::new_v4()).collect();
    let ensuring: Vec<_> = keyrings
        .iter()
        .enumerate()
        .map(|(at, keyring)| {
            let (keyring, mut subjects) = (keyring.clone(), subjects.clone());
            subjects.rotate_left(at * 5);
            tokio::spawn(async move { keyring.ensure(&subjects).await })
        })
        .collect();
    for ensured in ensuring {
        ensured.await.unwrap().unwrap();
    }
    let fresh = Keyring::connect(world.keys_as("nexus_query"), world.master.clone()).await.unwrap();
    for subject in &subjects {
        let key = fresh.key(*subject).await.unwrap();
        let sealed = fresh.seal_row(&key, "chart/problems/1", b"row");
        for keyring in &keyrings {
            let key = keyring.key(*subject).await.unwrap();
            assert_eq!(keyring.open_row(&key, "chart/problems/1", &sealed).unwrap(), b"row");
            assert!(matches!(keyring.open_row(&key, "chart/problems/2", &sealed), Err(Error::Row(_))));
        }
    }
    let blinds: std::collections::HashSet<_> = keyrings.iter().map(|keyring| keyring.blind("mrn", "1")).collect();
    assert_eq!(blinds.len(), 1);
    assert_ne!(fresh.blind("mrn", "1"), fresh.blind("mrn", "2"));
    assert_ne!(fresh.blind("mr", "n1"), fresh.blind("mrn", "1"));
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_master_key_is_refused_at_connect() {
    let world = World::new().await;
    world.keyring().await;
    let refused = Keyring::connect(world.keys_as("nexus_command"), MasterKey::random()).await;
    let refused = refused.err().unwrap();
    assert!(
        matches!(&refused, Error::WrongMasterKey { wrapped_by, .. } if wrapped_by.starts_with("file:")),
        "{refused:?}"
    );
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_key_is_an_error_and_never_plaintext() {
    let world = World::new().await;
    let log = world.event_log().await;
    let id = Uuid::new_v4();
    let new = append(vec![event("Patient", id, 1, id)]);
    appended(log.append(new.clone()).await.unwrap());
    let sealed = LogReader::new(world.owner());
    let partition = nexus_event_store::partition_of(id, common::PARTITIONS);
    let row = sealed.range(partition, 0, 10).await.unwrap().swap_remove(0);
    assert!(!row.sealed.windows(8).any(|window| window == b"a secret"));

    // The keys are lost under a process that runs: its next read of the store finds none.
    let lose = "set session_replication_role = replica; delete from subject_keys";
    sqlx::Executor::execute(&world.keys_owner(), lose).await.unwrap();
    let fresh = world.keyring().await;
    assert_eq!(fresh.key_of(&row.header).await.unwrap_err(), KeyError::NotProvisioned);
    assert_eq!(fresh.key(id).await.unwrap_err(), KeyError::NeverHadOne);
    log.keyring().forget(id);
    let refused = log.stream("Patient", id).await.unwrap_err();
    assert!(matches!(refused, Error::Key { source: KeyError::NotProvisioned, .. }), "{refused:?}");
    // Another key under the same subject opens nothing, either.
    fresh.ensure(&[id]).await.unwrap();
    log.keyring().forget(id);
    let refused = log.stream("Patient", id).await.unwrap_err();
    assert!(matches!(refused, Error::Key { source: KeyError::NotProvisioned, .. }), "{refused:?}");
    let other = fresh.key(id).await.unwrap();
    assert_eq!(open_event(&other, &row), Err(EnvelopeError::OtherKey));
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_store_that_does_not_match_the_log_is_refused() {
    let (world, other) = (World::new().await, World::new().await);
    let connect = async |log_pool, keyring| {
        let (kafka, topic) = (world.kafka.clone(), world.topic.clone());
        let config = LogConfig {
            log_pool,
            keyring,
            kafka: kafka.into(),
            topic,
            partitions: Some(common::PARTITIONS),
            claims: common::RULES,
        };
        EventLog::connect(config).await.map(drop)
    };
    let log = world.event_log().await;
    for _ in 0..30 {
        appended(log.append(common::registration()).await.unwrap());
    }
    connect(world.log_as("nexus_command"), world.keyring().await).await.unwrap();
    // Another installation's key store, with keys of its own.
    other.keyring().await.ensure(&[Uuid::new_v4()]).await.unwrap();
    let refused = connect(world.log_as("nexus_command"), other.keyring().await).await;
    assert!(matches!(refused, Err(Error::OtherKeyStore)), "{refused:?}");
    // Our own, from before the newest event.
    let lose = "set session_replication_role = replica;
                delete from subject_keys where created_at = (select max(created_at) from subject_keys)";
    sqlx::Executor::execute(&world.keys_owner(), lose).await.unwrap();
    let refused = connect(world.log_as("nexus_command"), world.keyring().await).await;
    assert!(matches!(refused, Err(Error::OtherKeyStore)), "{refused:?}");
    // A projector asks with its own role.
    let projector = Keyring::connect(world.keys_as("nexus_projector"), world.master.clone()).await.unwrap();
    let refused = projector.check_log(&world.log_as("nexus_projector")).await;
    assert!(matches!(refused, Err(Error::OtherKeyStore)), "{refused:?}");
    world.drop().await;
    other.drop().await;
}

/// Must show: every field that is bound, swapped between two events as they are stored.
#[tokio::test(flavor = "multi_thread")]
async fn two_stored_events_do_not_open_in_each_others_place() {
    let world = World::new().await;
    let log = world.event_log().await;
    let (one, two) = (Uuid::new_v4(), Uuid::new_v4());
    let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
    for (aggregate_type, aggregate, subject, sequence) in [
        ("Condition", first, one, 1),
        ("Condition", first, one, 2),
        ("Consent", second, one, 1),
        ("Patient", two, two, 1),
    ] {
        appended(log.append(append(vec![event(aggregate_type, aggregate, sequence, subject)])).await.unwrap());
    }
    let rows: Vec<_> = world.everything().await.into_iter().flatten().collect();
    assert_eq!(rows.len(), 4);
    for row in &rows {
        let key = log.keyring().key_of(&row.header).await.unwrap();
        open_event(&key, row).unwrap();
        for other in rows.iter().filter(|other| other.header != row.header) {
            let swapped = nexus_event_store::SealedEvent { sealed: other.sealed.clone(), ..row.clone() };
            let refused = open_event(&key, &swapped).unwrap_err();
            assert!(matches!(refused, EnvelopeError::Broken | EnvelopeError::OtherKey), "{refused:?}");
        }
    }
    world.drop().await;
}

/// What a read model's row is bound to, swapped between two rows.
macro_rules! bound_rows {
    ($($name:ident: $change:expr, $error:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let world = World::new().await;
            let keyring = world.keyring().await;
            let (subject, other) = (Uuid::new_v4(), Uuid::new_v4());
            keyring.ensure(&[subject, other]).await.unwrap();
            let key = keyring.key(subject).await.unwrap();
            let sealed = keyring.seal_row(&key, "chart/problems/1", b"row");
            assert_eq!(keyring.open_row(&key, "chart/problems/1", &sealed).unwrap(), b"row");
            let change: fn(SubjectKey, SubjectKey) -> (SubjectKey, &'static str) = $change;
            let (key, context) = change(key, keyring.key(other).await.unwrap());
            let refused = keyring.open_row(&key, context, &sealed);
            assert!(matches!(refused, Err(Error::Row(EnvelopeError::$error))), "{refused:?}");
            world.drop().await;
        }
    )*};
}

bound_rows! {
    a_row_does_not_open_in_another_read_model: |key, _| (key, "timeline/problems/1"), Broken;
    a_row_does_not_open_in_another_table: |key, _| (key, "chart/allergies/1"), Broken;
    a_row_does_not_open_as_another_row: |key, _| (key, "chart/problems/2"), Broken;
    a_row_does_not_open_for_another_subject: |_, other| (other, "chart/problems/1"), OtherKey;
}

#[test]
fn nonces_do_not_repeat_and_no_bit_of_them_is_stuck() {
    use coset::TaggedCborSerializable;
    let key = SubjectKey::generate(Uuid::new_v4());
    let header = header(&key);
    let nonce = |sealed: &[u8]| coset::CoseEncrypt0::from_tagged_slice(sealed).unwrap().unprotected.iv;
    const SEALS: usize = 20_000;
    let nonces: Vec<_> = (0..SEALS).map(|_| nonce(&seal(&key, &header, b"{}"))).collect();
    let distinct: std::collections::HashSet<_> = nonces.iter().collect();
    assert_eq!(distinct.len(), SEALS);
    // Each of the 96 bits is set in half of them, give or take six standard deviations.
    let tolerance = 6.0 * (SEALS as f64 / 4.0).sqrt();
    for bit in 0..96 {
        let set = nonces.iter().filter(|nonce| nonce[bit / 8] >> (bit % 8) & 1 == 1).count();
        assert!((set as f64 - SEALS as f64 / 2.0).abs() < tolerance, "bit {bit} is set in {set} of {SEALS}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_wrapping_is_unreadable() {
    let world = World::new().await;
    let keyring = world.keyring().await;
    let (subject, other) = (Uuid::new_v4(), Uuid::new_v4());
    keyring.ensure(&[subject, other]).await.unwrap();
    // One subject's wrapped key under another's name.
    sqlx::query(
        "update subject_keys set wrapped = (select wrapped from subject_keys where subject = $2) where subject = $1",
    )
    .bind(subject)
    .bind(other)
    .execute(&world.keys_owner())
    .await
    .unwrap();
    let fresh = world.keyring().await;
    assert_eq!(fresh.key(subject).await.unwrap_err(), KeyError::Unreadable);
    fresh.key(other).await.unwrap();
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_subject_never_gets_a_key_again() {
    let world = World::new().await;
    let log = world.event_log().await;
    let id = Uuid::new_v4();
    appended(log.append(append(vec![event("Patient", id, 1, id)])).await.unwrap());
    let owner = world.keys_owner();
    let erase = "update subject_keys set state = 'erased', wrapped = null where subject = $1";
    sqlx::query(erase).bind(id).execute(&owner).await.unwrap();

    let fresh = world.event_log().await;
    assert_eq!(fresh.keyring().key(id).await.unwrap_err(), KeyError::Erased);
    let refused = fresh.keyring().ensure(&[Uuid::new_v4(), id]).await.unwrap_err();
    assert!(matches!(refused, Error::Key { subject, source: KeyError::Erased } if subject == id));
    let refused = fresh.append(append(vec![event("Patient", id, 2, id)])).await.unwrap_err();
    assert!(matches!(refused, Error::Key { source: KeyError::Erased, .. }));
    let refused = fresh.stream("Patient", id).await.unwrap_err();
    assert!(matches!(refused, Error::Key { source: KeyError::Erased, .. }));
    log.keyring().forget(id);
    assert_eq!(log.keyring().key(id).await.unwrap_err(), KeyError::Erased);

    for statement in [
        "update subject_keys set state = 'active', wrapped = '\\x00' where state = 'erased'",
        "update subject_keys set wrapped = '\\x00' where state = 'erased'",
        "delete from subject_keys",
        "truncate subject_keys",
    ] {
        assert!(sqlx::query(statement).execute(&owner).await.is_err(), "{statement}");
    }
    world.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_ensures_share_their_rounds() {
    let world = World::new().await;
    let keyring = Arc::new(world.keyring().await);
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let keyring = keyring.clone();
            tokio::spawn(async move { keyring.ensure(&[Uuid::new_v4()]).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    // xmin names the transaction that inserted a row.
    let rounds: i64 = sqlx::query_scalar("select count(distinct xmin::text) from subject_keys")
        .fetch_one(&world.keys_owner())
        .await
        .unwrap();
    assert!(rounds < 100, "{rounds} transactions for 200 keys");
    world.drop().await;
}
