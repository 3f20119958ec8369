//! Where a page ended, as text that only we can make.
//!
//! A cursor carries a key of the list and a keyed checksum over it and the list it belongs to: one from another patient's
//! list, or made up, is refused and never becomes part of a query.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nexus_event_store::Keyring;
use nexus_web::problem::Problem;
use serde::Serialize;
use serde::de::DeserializeOwned;

const CHECKSUM_BYTES: usize = 12;
/// Room for a key of two texts of the longest that a column takes, every letter of them escaped.
const CURSOR_BYTES_MAX: usize = 8 * 1_024;

/// The cursor for a key of the list that `scope` names.
pub(super) fn encode(keyring: &Keyring, scope: &str, key: &impl Serialize) -> String {
    let key = serde_json::to_string(key).expect("keys of lists are numbers and strings");
    let checksum = checksum(keyring, scope, &key);
    URL_SAFE_NO_PAD.encode([checksum.as_slice(), key.as_bytes()].concat())
}

/// The key in a cursor, if it was made for this list.
pub(super) fn decode<K: DeserializeOwned>(keyring: &Keyring, scope: &str, cursor: &str) -> Result<K, Problem> {
    read(keyring, scope, cursor).ok_or_else(|| {
        Problem::invalid_parameter("cursor", "Not a cursor of this list. Start from its beginning without one.")
    })
}

fn read<K: DeserializeOwned>(keyring: &Keyring, scope: &str, cursor: &str) -> Option<K> {
    if cursor.len() > CURSOR_BYTES_MAX {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (found, key) = bytes.split_first_chunk::<CHECKSUM_BYTES>()?;
    let key = std::str::from_utf8(key).ok()?;
    // Not secret and bound to nothing worth forging, so an ordinary comparison will do.
    (*found == checksum(keyring, scope, key)).then(|| serde_json::from_str(key).ok()).flatten()
}

fn checksum(keyring: &Keyring, scope: &str, key: &str) -> [u8; CHECKSUM_BYTES] {
    let hash = keyring.blind("query-api/cursor", &format!("{}|{scope}|{key}", scope.len()));
    *hash.first_chunk().expect("a hash of 32 bytes has 12")
}
