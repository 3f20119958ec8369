//! Whose token the importer shows, always a fresh one.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::Mutex;

use crate::stack::Stack;
use crate::token;

/// A token is replaced this long before it expires.
const MARGIN: Duration = Duration::from_secs(60);
/// How long a token from a file is believed before the file is read again.
const FILE_LIFETIME: Duration = Duration::from_secs(60);
/// The demo account that imports.
const ACCOUNT: &str = "service";

pub struct Credentials {
    origin: Origin,
    current: Mutex<Option<(String, Instant)>>,
}

enum Origin {
    Stack(Box<Stack>),
    File(PathBuf),
}

impl Credentials {
    pub fn of_stack(stack: &Stack) -> Self {
        Self { origin: Origin::Stack(Box::new(stack.clone())), current: Mutex::default() }
    }

    pub fn of_file(path: PathBuf) -> Self {
        Self { origin: Origin::File(path), current: Mutex::default() }
    }

    /// A token that is good for a while.
    pub async fn token(&self) -> Result<String> {
        let mut current = self.current.lock().await;
        if let Some((token, good_until)) = current.as_ref()
            && Instant::now() < *good_until
        {
            return Ok(token.clone());
        }
        let (token, lifetime) = self.fetch().await?;
        *current = Some((token.clone(), Instant::now() + lifetime));
        Ok(token)
    }

    /// Forgets a token that was refused; the next one is fetched anew.
    pub async fn refused(&self) {
        *self.current.lock().await = None;
    }

    async fn fetch(&self) -> Result<(String, Duration)> {
        match &self.origin {
            Origin::Stack(stack) => {
                let token = token::fetch(stack, ACCOUNT).await?;
                let lifetime = Duration::from_secs(token.expires_in).saturating_sub(MARGIN);
                Ok((token.access_token, lifetime))
            }
            Origin::File(path) => {
                let text = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
                Ok((text.trim().to_owned(), FILE_LIFETIME))
            }
        }
    }
}
