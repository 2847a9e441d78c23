//! Issuing, checking and revoking tokens.

use std::{sync::Arc, time::Duration};

use cdflow_protocol::UnixMillis;

use crate::{Denial, Error, Grant, Token, TokenKind, TokenStore};

/// Lets people and CI systems in. Cheap to clone.
#[derive(Clone)]
pub struct Access {
    store: Arc<dyn TokenStore>,
}

impl Access {
    /// On this store.
    pub fn new(store: impl TokenStore) -> Self {
        Self { store: Arc::new(store) }
    }

    /// A new token for `person`, valid for `lifetime` from `now` (`None`: until revoked). This is the only time that
    /// anybody sees it.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::NoRandomness`].
    pub async fn issue(
        &self,
        kind: TokenKind,
        person: &str,
        lifetime: Option<Duration>,
        now: UnixMillis,
    ) -> Result<Token, Error> {
        let token = Token::generate()?;
        let expires = match lifetime {
            Some(lifetime) => now.saturating_add(i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX)),
            None => 0,
        };
        let grant = Grant { person: person.to_owned(), kind, created: now, expires };
        self.store.insert(&token.hash(), &grant, now).await?;
        Ok(token)
    }

    /// Uses up a login link and opens a session for its person.
    ///
    /// # Errors
    /// [`Error::Denied`] for anything but a fresh login link, [`Error::Store`], [`Error::NoRandomness`].
    pub async fn exchange(&self, link: &str, session: Duration, now: UnixMillis) -> Result<(Token, Grant), Error> {
        let hash = Token::parse(link)?.hash();
        // Looked at first: a session presented here by mistake must not be used up.
        self.granted(link, &[TokenKind::LoginLink], now).await?;
        let grant = self.store.take(&hash).await?.ok_or(Denial::Unknown)?;
        let token = self.issue(TokenKind::Session, &grant.person, Some(session), now).await?;
        let grant = self.granted(token.expose(), &[TokenKind::Session], now).await?;
        Ok((token, grant))
    }

    /// Who presents this token: a person with a session or a token of their own.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::Store`].
    pub async fn authenticate(&self, presented: &str, now: UnixMillis) -> Result<Grant, Error> {
        self.granted(presented, &[TokenKind::Session, TokenKind::Token], now).await
    }

    /// Which CI system presents this token.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::Store`].
    pub async fn authenticate_ci(&self, presented: &str, now: UnixMillis) -> Result<Grant, Error> {
        self.granted(presented, &[TokenKind::Ci], now).await
    }

    /// From now on this token is refused. Says whether it was known.
    ///
    /// # Errors
    /// [`Error::Denied`] when it is no token, [`Error::Store`].
    pub async fn revoke(&self, presented: &str) -> Result<bool, Error> {
        let hash = Token::parse(presented)?.hash();
        Ok(self.store.take(&hash).await?.is_some())
    }

    /// From now on every token of `person` is refused. Says how many there were.
    ///
    /// # Errors
    /// [`Error::Store`]; some may have been revoked already, so ask again.
    pub async fn revoke_all_of(&self, person: &str) -> Result<usize, Error> {
        let mut revoked = 0;
        for (hash, grant) in self.store.list().await? {
            if grant.person == person && self.store.take(&hash).await?.is_some() {
                revoked += 1;
            }
        }
        Ok(revoked)
    }

    /// Grants that hold at `now`, for a page that shows them; no secret is among them.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn grants(&self, now: UnixMillis) -> Result<Vec<Grant>, Error> {
        let all = self.store.list().await?;
        Ok(all.into_iter().map(|(_, grant)| grant).filter(|grant| grant.check(now).is_ok()).collect())
    }

    async fn granted(&self, presented: &str, kinds: &[TokenKind], now: UnixMillis) -> Result<Grant, Error> {
        let hash = Token::parse(presented)?.hash();
        let grant = self.store.find(&hash).await?.ok_or(Denial::Unknown)?;
        grant.check(now)?;
        if !kinds.contains(&grant.kind) {
            return Err(Denial::WrongKind { presented: grant.kind }.into());
        }
        Ok(grant)
    }
}
