//! Where the servers of this test run are.

/// The superuser's URL of the Postgres server that tests may use as they like.
pub fn postgres_url() -> String {
    variable("NEXUS_TEST_POSTGRES")
}

/// The address of the Kafka broker that tests may use as they like.
pub fn kafka_address() -> String {
    variable("NEXUS_TEST_KAFKA")
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: this test needs a real Postgres and Kafka. Run it with `./nexus test --filter NAME`")
    })
}
