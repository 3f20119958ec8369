//! The engine against real Postgres and Kafka: what it promises, under what breaks others.
#![expect(clippy::unwrap_used, reason = "a test that can't go on ends")]

mod counters;
mod words;
mod world;

mod erasure;
mod evolve;
mod exactly_once;
mod fences;
mod group;
mod killed;
mod operator;
mod parking;
mod rebuild;
mod topic;
mod turns;
mod waiting;
