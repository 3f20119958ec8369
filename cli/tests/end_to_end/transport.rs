//! Who gets in where, with which certificate; and that certificates are replaced while everything runs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nexus_event_store::kafka::KafkaArgs;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::DEADLINE;
use crate::stack::Stack;

const TOPICS: [&str; 2] = ["nexus.events.v1", "nexus.access.v1"];
const PATIENCE: Duration = Duration::from_secs(10);

/// Another authority, and a certificate of the relay's name that it signed.
struct Stranger {
    folder: tempfile::TempDir,
}

impl Stranger {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "relay");
        let certificate = params.signed_by(&key, &authority).unwrap();
        let stranger = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(stranger.authority(), authority.pem()).unwrap();
        std::fs::write(stranger.identity(), format!("{}{}", key.serialize_pem(), certificate.pem())).unwrap();
        stranger
    }

    fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    fn identity(&self) -> PathBuf {
        self.folder.path().join("relay.pem")
    }
}

/// Postgres: TLS, a password, a certificate, and both ends of one authority.
pub async fn postgres_lets_nobody_in_without_a_certificate(stack: &Stack) {
    let stranger = Stranger::new();
    let bare = stack.bare_database_url("nexus_relay", "nexus_log");
    let (authority, identity) = (stack.authority(), stack.identity("relay"));
    let with = |authority: &Path, identity: Option<&Path>| {
        let identity = identity.map(|file| format!("&sslcert={0}&sslkey={0}", file.display())).unwrap_or_default();
        format!("{bare}?sslmode=verify-full&sslrootcert={}{identity}", authority.display())
    };
    for (url, gets_in, what) in [
        (format!("{bare}?sslmode=disable"), false, "in the clear"),
        (with(&authority, None), false, "without a certificate"),
        (with(&authority, Some(&stranger.identity())), false, "with another authority's certificate"),
        (with(&stranger.authority(), Some(&identity)), false, "believing another authority"),
        (with(&authority, Some(&identity)), true, "as it should be"),
        (with(&authority, Some(&identity)).replace("/nexus_log", "/nexus_keys"), false, "the relay, at the keys"),
    ] {
        assert_eq!(PgConnection::connect(&url).await.is_ok(), gets_in, "{what}");
    }
}

/// Kafka: the same, and each service may do what it does and no more.
pub async fn kafka_lets_each_do_its_own_work_only(stack: &Stack) {
    let stranger = Stranger::new();
    let reaches = |kafka: KafkaArgs, what: &str| {
        let consumer: BaseConsumer = kafka.client().set("log_level", "0").create().unwrap();
        let reached = consumer.fetch_metadata(Some(TOPICS[0]), Duration::from_secs(4));
        (reached.is_ok_and(|it| it.topics()[0].error().is_none()), what.to_owned())
    };
    let (relay, mut other, mut misled) = (stack.kafka_as("relay"), stack.kafka_as("relay"), stack.kafka_as("relay"));
    other.tls.client_cert_file = Some(stranger.identity());
    other.tls.client_key_file = Some(stranger.identity());
    misled.tls.ca_file = Some(stranger.authority());
    let plain = KafkaArgs::from(&relay.servers);
    assert_eq!(reaches(relay, "relay"), (true, "relay".to_owned()));
    for (kafka, what) in [(plain, "in the clear"), (other, "another's certificate"), (misled, "another authority")] {
        assert_eq!(reaches(kafka, what), (false, what.to_owned()));
    }

    for name in ["projector", "command-api", "query-api", "auth"] {
        let producer: FutureProducer = stack.kafka_as(name).client().set("log_level", "0").create().unwrap();
        for topic in TOPICS {
            let record = FutureRecord::to(topic).partition(0).key("forged").payload("forged");
            let (error, _) = producer.send(record, PATIENCE).await.expect_err(name);
            let code = error.rdkafka_error_code();
            assert_eq!(code, Some(RDKafkaErrorCode::TopicAuthorizationFailed), "{name} writes {topic}");
        }
    }

    let group = "nexus.patient_chart.v1";
    for (name, may) in [("projector", true), ("relay", false), ("command-api", false), ("query-api", false)] {
        let mut config = stack.kafka_as(name).client();
        let consumer: BaseConsumer = config.set("log_level", "0").set("group.id", group).create().unwrap();
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_offset(TOPICS[0], 0, Offset::Invalid).unwrap();
        let offsets = consumer.committed_offsets(partitions, PATIENCE);
        assert_eq!(offsets.is_ok(), may, "{name} looks at {group}");
    }
}

/// What the relay and the projector serve is for who has a certificate; the doors are for everybody with a token.
pub async fn metrics_are_for_the_stack_itself(stack: &Stack) {
    let anonymous = stack.client(None);
    for (port, may) in [(1, true), (2, true), (3, false), (4, false)] {
        let url = format!("https://127.0.0.1:{}/readyz", stack.port_base + port);
        assert_eq!(anonymous.get(&url).send().await.is_ok(), may, "{url} without a certificate");
        assert!(stack.client(Some("admin")).get(&url).send().await.is_ok(), "{url} with one");
        let plain = url.replace("https", "http");
        assert!(anonymous.get(&plain).send().await.is_err(), "{plain}");
    }
}

/// All certificates are replaced, twice, while patients are registered and read. No request fails, no process starts again,
/// every server shows its new certificate, and what is recorded afterwards arrives.
pub async fn certificates_are_renewed_under_load(stack: &Stack) {
    let (pids, before) = (stack.pids().await, served_certificates(stack));
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let renewing = async {
        let renew = async || {
            tokio::task::block_in_place(|| stack.nexus(&["certificates", "renew", "--json"]));
            let enough = done.load(Ordering::Relaxed) + 40;
            eventually("the load goes on", || done.load(Ordering::Relaxed) >= enough).await;
        };
        renew().await;
        renew().await;
        eventually("all servers show new certificates", || {
            served_certificates(stack).iter().zip(&before).all(|(new, old)| new.is_some() && new != old)
        })
        .await;
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(renewing, register_and_read(stack, &stop, &done));
    assert_eq!(stack.pids().await, pids, "nothing was started again");
    stack.wait_until_read_models_are_level().await;
}

async fn register_and_read(stack: &Stack, stop: &AtomicBool, done: &AtomicUsize) {
    let token = stack.token("registrar");
    while !stop.load(Ordering::Relaxed) {
        // New connections each time, so that they meet the certificates as they are now.
        let client = stack.client(None);
        let mrn = Uuid::new_v4().to_string();
        let body = json!({
            "identifiers": [{"type": "MR", "system": "urn:oid:2.16.840.1.113883.19.5", "value": mrn}],
            "names": [{"family": "Example", "given": ["Ada"]}], "gender": "female", "birthDate": "1985-04-12",
        });
        let request = client.post(format!("{}/v1/patients", stack.write_door())).json(&body).bearer_auth(&token);
        let answer = request.header("idempotency-key", &mrn).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        let position = answer.headers()["nexus-position"].clone();
        let id = answer.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
        let request = client.get(format!("{}/v1/patients/{id}", stack.read_door())).bearer_auth(&token);
        let answer = request.header("nexus-position", position).header("nexus-wait-ms", "10000").send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// What issuer, doors, relay, projector, Postgres and Kafka show now.
fn served_certificates(stack: &Stack) -> Vec<Option<String>> {
    (0..7)
        .map(|port| stack.served_certificate(port, if port == 5 { &["-starttls", "postgres"] } else { &[] }))
        .collect()
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < DEADLINE, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
