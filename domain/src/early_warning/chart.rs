//! Chart 1 of the report, row by row.

/// The score of every number: each step holds from its number on, up to the next.
pub(super) struct Row(&'static [(f64, u8)]);

const FROM_THE_BOTTOM: f64 = f64::NEG_INFINITY;

pub(super) const RESPIRATION: Row = Row(&[(FROM_THE_BOTTOM, 3), (9.0, 1), (12.0, 0), (21.0, 2), (25.0, 3)]);
pub(super) const SATURATION_1: Row = Row(&[(FROM_THE_BOTTOM, 3), (92.0, 2), (94.0, 1), (96.0, 0)]);
pub(super) const SATURATION_2_ON_AIR: Row = Row(&[(FROM_THE_BOTTOM, 3), (84.0, 2), (86.0, 1), (88.0, 0)]);
pub(super) const SATURATION_2_ON_OXYGEN: Row =
    Row(&[(FROM_THE_BOTTOM, 3), (84.0, 2), (86.0, 1), (88.0, 0), (93.0, 1), (95.0, 2), (97.0, 3)]);
pub(super) const BLOOD_PRESSURE: Row = Row(&[(FROM_THE_BOTTOM, 3), (91.0, 2), (101.0, 1), (111.0, 0), (220.0, 3)]);
pub(super) const PULSE: Row = Row(&[(FROM_THE_BOTTOM, 3), (41.0, 1), (51.0, 0), (91.0, 1), (111.0, 2), (131.0, 3)]);
pub(super) const TENTHS_OF_TEMPERATURE: Row =
    Row(&[(FROM_THE_BOTTOM, 3), (351.0, 1), (361.0, 0), (381.0, 1), (391.0, 2)]);

impl Row {
    pub(super) fn of(&self, number: f64) -> u8 {
        self.0.iter().rev().find(|(from, _)| number >= *from).map_or(3, |(_, score)| *score)
    }

    /// The score of everything from one number to another; nothing if it lies in more than one step.
    pub(super) fn over(&self, least: f64, most: f64) -> Option<u8> {
        let is_one_step = !self.0.iter().any(|(from, _)| least < *from && *from <= most);
        is_one_step.then(|| self.of(least))
    }
}
