//! Which of the candidates that the blind index finds are meant, and how well they fit.

use std::cmp::Ordering;

use nexus_domain::fhir::Resource;
use uuid::Uuid;

use super::{blind, names};

/// Below this likeness two words that neither are one typo apart nor sound alike are not the same name.
const LIKENESS_MIN: f64 = 0.92;
/// What sounds alike counts at least this much, however it is spelled.
const SOUND_SCORE: f64 = 0.8;

/// A patient that fits.
pub(super) struct Match {
    pub id: Uuid,
    pub patient: Resource,
    pub score: f64,
}

/// How well a patient's names fit the words of a search: the mean over the words, nothing if a word fits no name.
pub(super) fn score(words: &[String], patient: &Resource) -> Option<f64> {
    let spellings = blind::name_spellings(patient);
    let best = |word: &String| spellings.iter().filter_map(|spelling| likeness(word, spelling)).max_by(f64::total_cmp);
    let scores: Option<Vec<f64>> = words.iter().map(best).collect();
    scores.map(|scores| scores.iter().sum::<f64>() / scores.len().max(1) as f64)
}

fn likeness(word: &str, spelling: &str) -> Option<f64> {
    if word == spelling {
        return Some(1.0);
    }
    let likeness = strsim::jaro_winkler(word, spelling);
    if strsim::osa_distance(word, spelling) <= 1 || likeness >= LIKENESS_MIN {
        // Never as good as the name itself, nor worse than what merely sounds like it.
        return Some(likeness.clamp(SOUND_SCORE, 0.999));
    }
    let sounds = names::sounds(spelling);
    names::sounds(word).iter().any(|sound| sounds.contains(sound)).then_some(likeness.min(SOUND_SCORE))
}

/// Best first; ties by id, so that pages don't overlap.
pub(super) fn order(one: &Match, other: &Match) -> Ordering {
    other.score.total_cmp(&one.score).then(one.id.cmp(&other.id))
}
