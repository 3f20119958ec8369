//! Names as a search compares them: what a person would call the same name is the same text.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Shorter names have too few letters for a missing one to mean the same name.
const NEIGHBOUR_LETTERS_MIN: usize = 3;
/// Letters of a name that count; the rest of an absurdly long one is left out.
const LETTERS_MAX: usize = 40;

/// What joins the letters on both sides, whichever of its forms a keyboard or a converter made of it: O'Keefe is OKeefe.
const APOSTROPHES: &[char] = &['\'', '’', '‘', '‛', '`', '´', '′', 'ʹ', 'ʻ', 'ʼ', 'ʽ', 'ʾ', 'ʿ', '＇', '׳', 'ꞌ'];

/// The words of a name, folded: no accents, no case, no punctuation.
pub(super) fn words(text: &str) -> Vec<String> {
    // An apostrophe joins, and what has neither width nor sound is not there; everything else that is no letter or digit
    // separates.
    let joined: String = text.chars().filter(|letter| !APOSTROPHES.contains(letter) && !is_silent(*letter)).collect();
    joined.split(|letter: char| !letter.is_alphanumeric() && !is_combining_mark(letter)).filter_map(fold).collect()
}

/// The spellings under which a word of a patient's name is kept: as it is, without the digits that generated names
/// carry, for what a hyphen, a joiner or the like holds together the whole in one, and with umlauts spelled out.
pub(super) fn spellings(name: &str) -> Vec<String> {
    let mut spellings = words(name);
    for part in name.split_whitespace() {
        let parts = words(part);
        if parts.len() > 1 {
            spellings.extend(fold(&parts.concat()));
        }
        if let Some(spelled_out) = with_umlauts_spelled_out(part) {
            spellings.extend(words(&spelled_out));
        }
    }
    let lettered: Vec<_> = spellings.iter().filter_map(|word| without_digits(word)).collect();
    spellings.extend(lettered);
    spellings.sort_unstable();
    spellings.dedup();
    spellings
}

/// Marks that say in which direction to read, where a line may break, or how long to draw a letter. A joiner that keeps two
/// letters apart (U+200C) is none of them: some write a space there.
fn is_silent(letter: char) -> bool {
    matches!(letter, '\u{ad}' | '\u{640}' | '\u{200b}' | '\u{200d}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// `Mueller` of `Müller`, as German writes it where there are no umlauts.
fn with_umlauts_spelled_out(word: &str) -> Option<String> {
    let composed: String = word.nfc().collect();
    let spelled_out = |letter: char| match letter {
        'ä' | 'Ä' => "ae".to_owned(),
        'ö' | 'Ö' => "oe".to_owned(),
        'ü' | 'Ü' => "ue".to_owned(),
        other => other.to_string(),
    };
    let spelled: String = composed.chars().map(spelled_out).collect();
    (spelled != composed).then_some(spelled)
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
        'ς' => "σ",
        // Arabic keyboards and Persian ones have different letters for the same.
        'ي' | 'ى' => "ی",
        'ك' => "ک",
        // Katakana, as for its half-width form.
        'ぁ'..='ゖ' => return char::from_u32(u32::from(letter) + 0x60).into_iter().collect(),
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
        assert_eq!(words("D\u{2032}Arcy O\u{b4}Neil Ka\u{2bb}ehu"), ["darcy", "oneil", "kaehu"]);
        assert_eq!(words("ΑΓΓΕΛΟΣ"), words("Άγγελος"));
        assert_eq!(words("\u{200f}دانیال\u{200e}"), words("دانيال"));
        assert_eq!(words("ｲﾄｳ"), words("いとう"));
        assert!(words(" - ' \u{200b}").is_empty());
    }

    #[test]
    fn a_name_is_kept_in_the_spellings_that_people_type() {
        assert_eq!(spellings("Chi716"), ["chi", "chi716"]);
        assert_eq!(spellings("Anne-Marie"), ["anne", "annemarie", "marie"]);
        assert_eq!(spellings("Ka\u{308}thner"), ["kaethner", "kathner"]);
        assert_eq!(spellings("حسن\u{200c}زاده"), ["حسن", "حسنزاده", "زاده"]);
        assert_eq!(spellings("Quin\u{1f600}n"), ["n", "quin", "quinn"]);
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
