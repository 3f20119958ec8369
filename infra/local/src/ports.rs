//! Which port belongs to whom, and how to find ports that nobody uses.

use std::net::TcpListener;

use anyhow::{Context, Result};

/// The ports of one stack, counted from its base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub base: u16,
}

impl Ports {
    pub const DEFAULT_BASE: u16 = 7400;
    /// How many a stack has, all in a row.
    pub const COUNT: u16 = 9;
    /// The highest base that leaves room for all of them.
    pub const BASE_MAX: u16 = u16::MAX - (Self::COUNT - 1);

    pub fn all(self) -> impl Iterator<Item = u16> {
        (0..Self::COUNT).map(move |offset| self.base + offset)
    }

    pub fn auth(self) -> u16 {
        self.base
    }

    pub fn command_api(self) -> u16 {
        self.base + 1
    }

    pub fn query_api(self) -> u16 {
        self.base + 2
    }

    pub fn relay(self) -> u16 {
        self.base + 3
    }

    pub fn projector(self) -> u16 {
        self.base + 4
    }

    pub fn postgres(self) -> u16 {
        self.base + 5
    }

    pub fn kafka(self) -> u16 {
        self.base + 6
    }

    pub fn kafka_controller(self) -> u16 {
        self.base + 7
    }

    pub fn reactor(self) -> u16 {
        self.base + 8
    }
}

/// Different ports of the loopback interface that were free a moment ago: all are held open until the last one is found.
pub fn free_ports(count: usize) -> Result<Vec<u16>> {
    let listeners = (0..count)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)).context("no free port on 127.0.0.1"))
        .collect::<Result<Vec<_>>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ() {
        let mut ports = free_ports(20).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
    }
}
