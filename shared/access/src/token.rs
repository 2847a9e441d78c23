//! Tokens and their hashes.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::TryRngCore as _;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::{Denial, Error};

/// What every token begins with, so that scanners for leaked secrets can know one.
const PREFIX: &str = "cdf_";
/// Bytes of randomness.
const SECRET_BYTES: usize = 32;

/// A secret that proves who is asking. Held only as long as it is needed to show or check it; never stored.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A new one from the operating system's random numbers.
    ///
    /// # Errors
    /// [`Error::NoRandomness`].
    pub fn generate() -> Result<Self, Error> {
        let mut secret = [0; SECRET_BYTES];
        rand::rngs::OsRng.try_fill_bytes(&mut secret).map_err(|error| Error::NoRandomness(error.to_string()))?;
        Ok(Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret))))
    }

    /// What somebody presented, if it has the form of a token.
    ///
    /// # Errors
    /// [`Denial::Malformed`].
    pub fn parse(presented: &str) -> Result<Self, Denial> {
        let secret = presented.strip_prefix(PREFIX).ok_or(Denial::Malformed)?;
        match URL_SAFE_NO_PAD.decode(secret) {
            Ok(bytes) if bytes.len() == SECRET_BYTES => Ok(Self(presented.to_owned())),
            _ => Err(Denial::Malformed),
        }
    }

    /// Under which it is stored.
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0.as_bytes()).into())
    }

    /// The secret itself, to be shown to its owner once.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// SHA-256 of a token: the only form in which one is stored. Compared in constant time.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// As a key in a store.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// A key of a store.
    pub fn from_hex(key: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(key, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_token_says_what_it_is_and_nothing_in_debug_output() {
        let token = Token::generate().unwrap();
        assert!(token.expose().starts_with("cdf_"));
        assert_eq!(token.expose().len(), 4 + 43);
        let debug = format!("{token:?} {:?}", token.hash());
        assert!(!debug.contains(&token.expose()[4..]) && !debug.contains(&token.hash().to_hex()), "{debug}");
    }

    #[test]
    fn two_tokens_are_never_the_same() {
        assert_ne!(Token::generate().unwrap().hash(), Token::generate().unwrap().hash());
    }

    #[test]
    fn a_hash_reads_back_from_its_key() {
        let hash = Token::generate().unwrap().hash();
        assert_eq!(TokenHash::from_hex(&hash.to_hex()), Some(hash));
        assert_eq!(TokenHash::from_hex("12"), None);
    }

    proptest::proptest! {
        #[test]
        fn anything_presented_is_a_token_or_malformed(text in ".{0,80}") {
            if let Ok(token) = Token::parse(&text) {
                proptest::prop_assert_eq!(token.expose(), text);
            }
        }
    }
}
