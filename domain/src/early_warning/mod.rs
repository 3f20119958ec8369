//! NEWS2, the National Early Warning Score of the Royal College of Physicians (London 2017): how ill an adult inpatient is,
//! from seven measurements at the bedside, and how urgently somebody has to come.
//!
//! It is not for people under 16 nor for pregnant women (page 11 of the report); whoever asks decides that.

mod chart;
mod readings;

pub use readings::{Parameter, Readings, Value, readings};

/// How alert a patient is: ACVPU. Everything but alert is as bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consciousness {
    Alert,
    /// New confusion, or answers to voice or pain only, or unresponsive.
    Impaired,
}

/// Which oxygen saturation is aimed at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SaturationScale {
    /// 96 % and more; for everybody else.
    #[default]
    One,
    /// 88 to 92 %: hypercapnic respiratory failure, confirmed, and prescribed by a competent clinician.
    Two,
}

/// The latest measurements of a patient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VitalSigns {
    /// Breaths per minute.
    pub respiration: f64,
    /// Peripheral oxygen saturation in percent.
    pub saturation: f64,
    pub scale: SaturationScale,
    /// Whether supplemental oxygen is given.
    pub oxygen: bool,
    /// Systolic, in mmHg.
    pub blood_pressure: f64,
    /// Beats per minute.
    pub pulse: f64,
    pub consciousness: Consciousness,
    /// Degrees Celsius.
    pub temperature: f64,
}

/// A score, part by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Score {
    pub respiration: u8,
    pub saturation: u8,
    pub oxygen: u8,
    pub blood_pressure: u8,
    pub pulse: u8,
    pub consciousness: u8,
    pub temperature: u8,
}

/// What a score calls for (chart 2, "thresholds and triggers").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Risk {
    /// 0 to 4 in all: by the ward.
    Low,
    /// A 3 in one part: urgently, by the ward.
    LowMedium,
    /// 5 or 6: urgently, by a clinician who knows acute illness.
    Medium,
    /// 7 and more: an emergency.
    High,
}

impl Risk {
    /// Every risk, the least first.
    pub const ALL: [Self; 4] = [Self::Low, Self::LowMedium, Self::Medium, Self::High];

    /// The code that stands for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::LowMedium => "low-medium",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    /// The risk that a code stands for.
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|risk| risk.as_str() == code)
    }
}

impl VitalSigns {
    /// The score of these measurements. Numbers between two steps of the chart count as the nearer one, as on paper: whole
    /// numbers, and tenths of a degree.
    pub fn score(&self) -> Score {
        Score {
            respiration: chart::RESPIRATION.of(self.respiration.round()),
            saturation: self.saturation_score(),
            oxygen: if self.oxygen { 2 } else { 0 },
            blood_pressure: chart::BLOOD_PRESSURE.of(self.blood_pressure.round()),
            pulse: chart::PULSE.of(self.pulse.round()),
            consciousness: if self.consciousness == Consciousness::Alert { 0 } else { 3 },
            temperature: chart::TENTHS_OF_TEMPERATURE.of((self.temperature * 10.0).round()),
        }
    }

    fn saturation_score(&self) -> u8 {
        let percent = self.saturation.round();
        match (self.scale, self.oxygen) {
            (SaturationScale::One, _) => chart::SATURATION_1.of(percent),
            (SaturationScale::Two, false) => chart::SATURATION_2_ON_AIR.of(percent),
            (SaturationScale::Two, true) => chart::SATURATION_2_ON_OXYGEN.of(percent),
        }
    }
}

impl Score {
    /// From 0 to 20.
    pub fn total(&self) -> u8 {
        self.parts().iter().sum()
    }

    pub fn risk(&self) -> Risk {
        match self.total() {
            7.. => Risk::High,
            5.. => Risk::Medium,
            _ if self.parts().contains(&3) => Risk::LowMedium,
            _ => Risk::Low,
        }
    }

    fn parts(&self) -> [u8; 7] {
        let Self { respiration, saturation, oxygen, blood_pressure, pulse, consciousness, temperature } = *self;
        [respiration, saturation, oxygen, blood_pressure, pulse, consciousness, temperature]
    }
}

#[cfg(test)]
mod tests;
