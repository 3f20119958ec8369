//! Which partition of the log a subject's events live in.
//!
//! The rule is Kafka's own default partitioner, so that a producer in any language agrees with the store.

use uuid::Uuid;

/// The number of partitions that a log is created with when nothing else is said.
pub const PARTITIONS_DEFAULT: i32 = 12;

const SEED: u32 = 0x9747_b28c;
const MULTIPLIER: u32 = 0x5bd1_e995;

/// The partition of a subject: `toPositive(murmur2(lower-case text of the id)) % partitions`.
pub fn partition_of(subject: Uuid, partitions: i32) -> i32 {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let key = subject.hyphenated().encode_lower(&mut text).as_bytes();
    (murmur2(key) & 0x7fff_ffff).cast_signed() % partitions
}

/// `org.apache.kafka.common.utils.Utils.murmur2`, bit for bit.
fn murmur2(data: &[u8]) -> u32 {
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let (words, rest) = data.as_chunks::<4>();
    let mut hash = words.iter().fold(SEED ^ length, |hash, word| {
        let mixed = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        let mixed = (mixed ^ (mixed >> 24)).wrapping_mul(MULTIPLIER);
        hash.wrapping_mul(MULTIPLIER) ^ mixed
    });
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| (tail << 8) | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(MULTIPLIER);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_is_kafkas() {
        let cases: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (text, expected) in cases {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), expected, "{text}");
        }
    }

    #[test]
    fn every_partition_is_used() {
        let mut counts = [0; 12];
        for _ in 0..12_000 {
            counts[usize::try_from(partition_of(Uuid::new_v4(), 12)).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }
}
