//! Reactors: what is to be done because of what was recorded, exactly once.
//!
//! A reactor is a read model like any other, folded by the projector, whose schema has a table of orders besides
//! ([`orders`]). An order is a command of the write door with the time at which it is due; a timer is an order that is due
//! later. It is written in the transaction that moves the checkpoint, so there is one for each cause, whatever dies.
//!
//! The process `reactor` carries orders out ([`dispatch`]): it locks what is due, sends each as its own service account,
//! and notes what became of it. If it dies in between, the next one sends the order again under the same `Idempotency-Key`,
//! and the write door applies it once. It needs no key, no Kafka and no log, and sees nothing of the read database but orders.
//!
//! Only the version that `projection.versions` names is carried out. What a rebuilt version orders because of events that
//! the version before it had seen, and that was due by the time of the switch, is marked as superseded: done, or still to
//! be sent under a key that both have.

pub mod config;
pub mod dispatch;
pub mod door;
pub mod orders;
pub mod service;

mod credentials;

pub use config::ReactorConfig;
pub use service::Reactor;
