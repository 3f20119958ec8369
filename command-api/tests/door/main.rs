//! The write door as its callers see it, on a real Postgres and a real Kafka.

mod accesses;
mod world;

mod commands;
mod rules;

mod concurrency;
mod idempotency;
mod snapshots;

mod access;
mod as_sent;
mod bad_input;
mod tokens;
mod uploads;

mod batches;
mod links;
mod published_examples;
mod references;
mod second_night;
mod transactions;
mod whose;

mod document;
mod forgetting;
mod schemathesis;
mod synthea;
