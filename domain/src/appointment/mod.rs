//! An appointment: booked into a practitioner's time, confirmed, kept or not.
//!
//! FHIR R4 Appointment: <https://hl7.org/fhir/R4/appointment.html>. Who may not be booked twice is a matter of claims
//! (see `slots`), which the append checks; nothing here knows of other appointments.

mod command;
mod decide;
mod error;
mod event;
mod form;
mod slots;
mod state;
mod upcast;

#[cfg(test)]
mod tests;

pub use command::AppointmentCommand;
pub use error::Error;
pub use event::AppointmentEvent;
pub use state::Appointment;
