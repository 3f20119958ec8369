//! The safeguards that tests are held against: a test that passes without the safeguard it is about proves nothing.
//!
//! With the feature `sabotage`, one safeguard, named by `NEXUS_SABOTAGE`, is switched off in this process; the mutation check
//! (`./nexus test --mutations`) does so and requires that a test fails. Without the feature, which is never a default and
//! which a release refuses to be built with, [`is_off`] is a constant.

#[cfg(all(feature = "sabotage", not(debug_assertions)))]
compile_error!("the feature `sabotage` switches safeguards off; it is for tests, and no release is built with it");

/// What keeps events from being lost, repeated or mixed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safeguard {
    /// A checkpoint and a relay's progress move only under the epoch of the present owner.
    EpochFence,
    /// A record whose position has been applied is dropped.
    PositionCheck,
    /// A request that was answered before is recognised. Lives in the append function.
    IdempotencyRow,
    /// Who appends to a partition, or leans on it, holds its head. Lives in the append function.
    HeadLock,
    /// Rows change in the transaction that moves their checkpoint.
    OneTransaction,
}

impl Safeguard {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::EpochFence, Self::PositionCheck, Self::IdempotencyRow, Self::HeadLock, Self::OneTransaction];

    /// The name that `NEXUS_SABOTAGE` knows it by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EpochFence => "epoch-fence",
            Self::PositionCheck => "position-check",
            Self::IdempotencyRow => "idempotency-row",
            Self::HeadLock => "head-lock",
            Self::OneTransaction => "one-transaction",
        }
    }

    /// The safeguard of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|safeguard| safeguard.name() == name)
    }
}

/// Whether a safeguard is switched off in this process: never, without the feature.
#[cfg(not(feature = "sabotage"))]
pub const fn is_off(_: Safeguard) -> bool {
    false
}

/// Whether a safeguard is switched off in this process, which the environment says once.
#[cfg(feature = "sabotage")]
pub fn is_off(safeguard: Safeguard) -> bool {
    static OFF: std::sync::LazyLock<Option<Safeguard>> = std::sync::LazyLock::new(|| {
        let name = std::env::var("NEXUS_SABOTAGE").ok()?;
        Some(Safeguard::parse(&name).unwrap_or_else(|| panic!("NEXUS_SABOTAGE names no safeguard: {name}")))
    });
    *OFF == Some(safeguard)
}
