//! Names as a search compares them: what a person would call the same name is the same text.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Shorter names have too few letters for a missing one to mean the same name.
const NEIGHBOUR_LETTERS_MIN: usize = 3;
/// Letters of a name that count; the rest of an absurdly long one is left out.
const LETTERS_MAX: usize = 40;

/// The words of a name, folded: no accents, no case, no punctuation.
pub(super) fn words(text: &str) -> Vec<String> {
    // An apostrophe joins (O'Keefe, OKeefe), everything else that is no letter or digit separates.
    let joined: String = text.chars().filter(|letter| !matches!(letter, '\'' | '’' | '`' | 'ʼ')).collect();
    joined.split(|letter: char| !letter.is_alphanumeric() && !is_combining_mark(letter)).filter_map(fold).collect()
}

/// The spellings under which a word of a patient's name is kept: as it is, without the digits that generated names
/// carry, and for a hyphenated name the whole in one.
pub(super) fn spellings(name: &str) -> Vec<String> {
    let mut spellings = words(name);
    for part in name.split_whitespace().filter(|part| part.contains('-')) {
        spellings.extend(fold(&words(part).concat()));
    }
    let lettered: Vec<_> = spellings.iter().filter_map(|word| without_digits(word)).collect();
    spellings.extend(lettered);
    spellings.sort_unstable();
    spellings.dedup();
    spellings
}

/// The word and everything that is left of it when one letter is dropped. Two words that are one insertion, deletion,
/// substitution or transposition apart have one of these in common.
pub(super) fn neighbours(word: &str) -> Vec<String> {
    let letters: Vec<char> = word.chars().collect();
    let mut neighbours = vec![word.to_owned()];
    if letters.len() >= NEIGHBOUR_LETTERS_MIN {
        let without =
            |dropped| letters.iter().enumerate().filter(move |(at, _)| *at != dropped).map(|(_, letter)| letter);
        neighbours.extend((0..letters.len()).map(|dropped| without(dropped).collect::<String>()));
    }
    neighbours.sort_unstable();
    neighbours.dedup();
    neighbours
}

/// How the word sounds: its double metaphone codes. Nothing for other scripts.
pub(super) fn sounds(word: &str) -> Vec<String> {
    const CODE_LETTERS_MAX: usize = 6;
    let letters = without_digits(word).unwrap_or_else(|| word.to_owned());
    if letters.len() < NEIGHBOUR_LETTERS_MIN || !letters.bytes().all(|letter| letter.is_ascii_alphabetic()) {
        return Vec::new();
    }
    let codes = rphonetic::DoubleMetaphone::new(Some(CODE_LETTERS_MAX)).double_metaphone(&letters);
    let mut sounds = vec![codes.primary(), codes.alternate()];
    sounds.retain(|code| !code.is_empty());
    sounds.dedup();
    sounds
}

fn fold(word: &str) -> Option<String> {
    let folded: String =
        word.nfkd().filter(|letter| !is_combining_mark(*letter)).flat_map(plain).take(LETTERS_MAX).collect();
    (!folded.is_empty()).then_some(folded)
}

/// Lower case, and the letters that Unicode does not take apart.
fn plain(letter: char) -> Vec<char> {
    let spelled = match letter {
        'ß' | 'ẞ' => "ss",
        'æ' | 'Æ' => "ae",
        'œ' | 'Œ' => "oe",
        'ø' | 'Ø' => "o",
        'ł' | 'Ł' => "l",
        'đ' | 'Đ' | 'ð' | 'Ð' => "d",
        'þ' | 'Þ' => "th",
        'ı' => "i",
        other => return other.to_lowercase().collect(),
    };
    spelled.chars().collect()
}

fn without_digits(word: &str) -> Option<String> {
    let letters: String = word.chars().filter(|letter| !letter.is_ascii_digit()).collect();
    (letters.len() < word.len() && !letters.is_empty()).then_some(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_called_the_same_is_the_same() {
        assert_eq!(words("  Ana-María  O'Keefe54, Øster"), ["ana", "maria", "okeefe54", "oster"]);
        assert_eq!(words("Łukasz Großmann"), ["lukasz", "grossmann"]);
        assert_eq!(words("Ana-Mari\u{301}a"), words("Ana-María"));
        assert!(words(" - ' ").is_empty());
    }

    #[test]
    fn a_name_is_kept_in_the_spellings_that_people_type() {
        assert_eq!(spellings("Chi716"), ["chi", "chi716"]);
        assert_eq!(spellings("Anne-Marie"), ["anne", "annemarie", "marie"]);
    }

    #[test]
    fn one_typo_leaves_a_neighbour_in_common() {
        let near = |one: &str, other: &str| {
            let others = neighbours(other);
            neighbours(one).iter().any(|word| others.contains(word))
        };
        for typo in ["cormiers", "cormir", "cormeir", "carmier", "ormier", "xcormier"] {
            assert!(near("cormier", typo), "{typo}");
        }
        assert!(!near("cormier", "karmeir"));
    }

    #[test]
    fn sounds_forgive_spelling_and_refuse_other_scripts() {
        assert_eq!(sounds("stephen"), sounds("steven"));
        assert!(sounds("王小明").is_empty());
        assert!(sounds("李").is_empty());
    }
}
