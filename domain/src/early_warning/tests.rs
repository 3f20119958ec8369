//! The chart at each of its borders, and whole patients.

use super::*;

const WELL: VitalSigns = VitalSigns {
    respiration: 16.0,
    saturation: 98.0,
    scale: SaturationScale::One,
    oxygen: false,
    blood_pressure: 125.0,
    pulse: 70.0,
    consciousness: Consciousness::Alert,
    temperature: 36.8,
};

#[test]
fn every_border_of_the_chart_is_where_it_was_printed() {
    type Row = (&'static str, fn(f64) -> VitalSigns, &'static [(f64, u8)]);
    let rows: [Row; 7] = [
        (
            "respiration",
            |n| VitalSigns { respiration: n, ..WELL },
            &[
                (0.0, 3),
                (8.0, 3),
                (9.0, 1),
                (11.0, 1),
                (12.0, 0),
                (20.0, 0),
                (21.0, 2),
                (24.0, 2),
                (25.0, 3),
                (60.0, 3),
            ],
        ),
        (
            "saturation, scale 1",
            |n| VitalSigns { saturation: n, ..WELL },
            &[(91.0, 3), (92.0, 2), (93.0, 2), (94.0, 1), (95.0, 1), (96.0, 0), (100.0, 0)],
        ),
        (
            "saturation, scale 2, on air",
            |n| VitalSigns { saturation: n, scale: SaturationScale::Two, ..WELL },
            &[(83.0, 3), (84.0, 2), (85.0, 2), (86.0, 1), (87.0, 1), (88.0, 0), (92.0, 0), (93.0, 0), (99.0, 0)],
        ),
        (
            "saturation, scale 2, on oxygen (which adds 2)",
            |n| VitalSigns { saturation: n, scale: SaturationScale::Two, oxygen: true, ..WELL },
            &[
                (83.0, 5),
                (85.0, 4),
                (87.0, 3),
                (88.0, 2),
                (92.0, 2),
                (93.0, 3),
                (94.0, 3),
                (95.0, 4),
                (96.0, 4),
                (97.0, 5),
            ],
        ),
        (
            "systolic blood pressure",
            |n| VitalSigns { blood_pressure: n, ..WELL },
            &[(90.0, 3), (91.0, 2), (100.0, 2), (101.0, 1), (110.0, 1), (111.0, 0), (219.0, 0), (220.0, 3)],
        ),
        (
            "pulse",
            |n| VitalSigns { pulse: n, ..WELL },
            &[
                (40.0, 3),
                (41.0, 1),
                (50.0, 1),
                (51.0, 0),
                (90.0, 0),
                (91.0, 1),
                (110.0, 1),
                (111.0, 2),
                (130.0, 2),
                (131.0, 3),
            ],
        ),
        (
            "temperature",
            |n| VitalSigns { temperature: n, ..WELL },
            &[(35.0, 3), (35.1, 1), (36.0, 1), (36.1, 0), (38.0, 0), (38.1, 1), (39.0, 1), (39.1, 2), (41.0, 2)],
        ),
    ];
    for (row, set, borders) in rows {
        for (number, score) in borders {
            assert_eq!(set(*number).score().total(), *score, "{row}: {number}");
        }
    }
}

#[test]
fn oxygen_and_consciousness_count_by_themselves() {
    assert_eq!(WELL.score().total(), 0);
    assert_eq!(VitalSigns { oxygen: true, ..WELL }.score().total(), 2);
    assert_eq!(VitalSigns { consciousness: Consciousness::Impaired, ..WELL }.score().total(), 3);
}

#[test]
fn whole_patients_are_seen_as_urgently_as_the_thresholds_say() {
    let cases = [
        ("well", WELL, 0, Risk::Low),
        (
            "a little of everything",
            VitalSigns { respiration: 9.0, saturation: 94.0, pulse: 95.0, temperature: 38.5, ..WELL },
            4,
            Risk::Low,
        ),
        ("one part alone at its worst", VitalSigns { pulse: 140.0, ..WELL }, 3, Risk::LowMedium),
        ("three and one", VitalSigns { pulse: 140.0, temperature: 38.5, ..WELL }, 4, Risk::LowMedium),
        ("five", VitalSigns { respiration: 22.0, oxygen: true, temperature: 38.5, ..WELL }, 5, Risk::Medium),
        ("six", VitalSigns { respiration: 22.0, oxygen: true, temperature: 39.5, ..WELL }, 6, Risk::Medium),
        ("seven", VitalSigns { respiration: 26.0, oxygen: true, temperature: 39.5, ..WELL }, 7, Risk::High),
        (
            "septic",
            VitalSigns {
                respiration: 28.0,
                saturation: 90.0,
                oxygen: true,
                blood_pressure: 85.0,
                pulse: 135.0,
                consciousness: Consciousness::Impaired,
                temperature: 34.5,
                ..WELL
            },
            20,
            Risk::High,
        ),
    ];
    for (name, signs, total, risk) in cases {
        let score = signs.score();
        assert_eq!((score.total(), score.risk()), (total, risk), "{name}");
    }
}

#[test]
fn what_is_measured_more_finely_counts_as_the_nearer_step() {
    assert_eq!(VitalSigns { respiration: 20.4, ..WELL }.score().respiration, 0);
    assert_eq!(VitalSigns { respiration: 20.5, ..WELL }.score().respiration, 2);
    assert_eq!(VitalSigns { temperature: 38.04, ..WELL }.score().temperature, 0);
    assert_eq!(VitalSigns { temperature: 38.05, ..WELL }.score().temperature, 1);
    assert_eq!(VitalSigns { pulse: f64::NAN, ..WELL }.score().pulse, 3, "what is no number alarms");
}
