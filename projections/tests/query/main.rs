//! The read models and the read door, against a real database.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod access;
mod access_log;
mod authorization;
mod calendar;
mod census;
mod chart;
mod corpus;
mod directory;
mod feed;
mod fhir;
mod forgetting;
mod invariance;
mod killed;
mod meaning;
mod modifiers;
mod orders;
mod oversize;
mod own_write;
mod parked;
mod population;
mod sample;
mod schemathesis;
mod secrecy;
mod timeline;
mod vital_signs;
mod world;
