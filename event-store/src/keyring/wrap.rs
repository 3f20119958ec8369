//! A key under a key: AES-256-GCM with a random nonce in front, and a name for what it is as associated data.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use zeroize::Zeroizing;

pub(super) type KeyBytes = Zeroizing<[u8; 32]>;

const NONCE_BYTES: usize = 12;

/// A new key from the operating system's random source.
pub(super) fn random_key() -> KeyBytes {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice()).expect("the operating system's random source works or no key may be made");
    bytes
}

/// Wraps `key` under `outer`; `name` must be given again to unwrap it.
pub(super) fn wrap(outer: &KeyBytes, name: &str, key: &[u8; 32]) -> Vec<u8> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).expect("the operating system's random source works or no key may be wrapped");
    let payload = Payload { msg: key.as_slice(), aad: name.as_bytes() };
    let cipher = Aes256Gcm::new((&**outer).into());
    let sealed = cipher.encrypt(&Nonce::from(nonce), payload).expect("AES-GCM refuses only above 64 GiB");
    [nonce.as_slice(), &sealed].concat()
}

/// Unwraps a key, if it was wrapped under this outer key and name.
pub(super) fn unwrap(outer: &KeyBytes, name: &str, wrapped: &[u8]) -> Option<KeyBytes> {
    let (nonce, sealed) = wrapped.split_first_chunk::<NONCE_BYTES>()?;
    let cipher = Aes256Gcm::new((&**outer).into());
    let payload = Payload { msg: sealed, aad: name.as_bytes() };
    let plain = Zeroizing::new(cipher.decrypt(&Nonce::from(*nonce), payload).ok()?);
    let mut key = Zeroizing::new([0; 32]);
    if plain.len() != key.len() {
        return None;
    }
    key.copy_from_slice(&plain);
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ciphers_wipe_their_key_schedules() {
        fn is_wiped<T: zeroize::ZeroizeOnDrop>() {}
        is_wiped::<Aes256Gcm>();
        is_wiped::<KeyBytes>();
    }

    #[test]
    fn a_key_unwraps_under_its_own_outer_key_and_name_only() {
        let (outer, key) = (random_key(), random_key());
        let wrapped = wrap(&outer, "name", &key);
        assert_eq!(unwrap(&outer, "name", &wrapped).as_deref(), Some(&*key));
        assert!(unwrap(&outer, "other", &wrapped).is_none());
        assert!(unwrap(&random_key(), "name", &wrapped).is_none());
        assert!(unwrap(&outer, "name", &wrapped[..20]).is_none());
        assert!(!wrapped.windows(32).any(|window| window == key.as_slice()));
    }
}
