//! Keeps the signing keys fresh: by age, and when an operator asks for it with SIGHUP.

use std::{io, time::Duration};

use nexus_auth::issuer::{Issuer, KeyError, Rotation};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::interval,
};

const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Takes SIGHUP over, whose default would end the process.
pub fn on_hangup() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// Never ends by itself. What can't be done now, on a full disk say, is tried again.
pub async fn run(issuer: Issuer, rotation: Rotation, mut hangup: Signal) {
    let mut ticks = interval(CHECK_INTERVAL);
    loop {
        tokio::select! {
            _ = hangup.recv() => report(issuer.keys().rotate(rotation.lead)),
            _ = ticks.tick() => report(issuer.keys().maintain(&rotation)),
        }
    }
}

fn report(outcome: Result<(), KeyError>) {
    if let Err(error) = outcome {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        tracing::error!(error = %error, source, "the signing keys could not be changed");
    }
}
