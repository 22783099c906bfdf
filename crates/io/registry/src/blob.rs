//! Blobs: layers and configurations, checked while they are read.

use bytes::Bytes;
use reqwest::{Response, StatusCode};
use sha2::{Digest as _, Sha256, Sha512};

use crate::error::RegistryError;
use crate::name::{Digest, Repository};
use crate::request::{Ask, Registry, hex, pull};

/// How often a blob that breaks off is asked for from there on.
const RESUMPTIONS: u32 = 3;

/// A blob under way. Its bytes are good when [`Blob::next`] has said so with `Ok(None)`, and not before.
pub struct Blob<'a> {
    registry: &'a Registry,
    ask: Ask,
    answer: Option<Response>,
    digest: Digest,
    size: u64,
    got: u64,
    sum: Sum,
    left: u32,
}

enum Sum {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl<'a> Blob<'a> {
    pub(crate) async fn open(
        registry: &'a Registry,
        repository: &Repository,
        digest: &Digest,
        size: u64,
    ) -> Result<Self, RegistryError> {
        let path = format!("v2/{repository}/blobs/{digest}");
        let what = format!("blob {digest} of {repository}");
        let ask = registry.ask(&path, "application/octet-stream, */*", pull(repository), what)?;
        let answer = Some(registry.get(&ask).await?);
        let sum = if digest.is_sha512() { Sum::Sha512(Box::default()) } else { Sum::Sha256(Sha256::new()) };
        Ok(Self { registry, ask, answer, digest: digest.clone(), size, got: 0, sum, left: RESUMPTIONS })
    }

    /// The next piece, of any length but 0; `None` when all came and has the right digest.
    ///
    /// # Errors
    /// [`RegistryError::Digest`] and [`RegistryError::TooLarge`] for other bytes than those that were asked for,
    /// [`RegistryError::Truncated`] when it breaks off again and again, else what is in the way.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let Some(answer) = &mut self.answer else { return Ok(None) };
            match answer.chunk().await {
                Ok(Some(piece)) if piece.is_empty() => {}
                Ok(Some(piece)) => {
                    self.got = self.got.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
                    if self.got > self.size {
                        self.answer = None;
                        return Err(RegistryError::TooLarge { what: self.ask.what.clone(), most: self.size });
                    }
                    match &mut self.sum {
                        Sum::Sha256(sum) => sum.update(&piece),
                        Sum::Sha512(sum) => sum.update(&piece),
                    }
                    return Ok(Some(piece));
                }
                Ok(None) if self.got == self.size => {
                    self.answer = None;
                    return self.check().map(|()| None);
                }
                Ok(None) => self.resume().await?,
                Err(error) => {
                    tracing::debug!(%error, what = self.ask.what, got = self.got, "a blob broke off");
                    self.resume().await?;
                }
            }
        }
    }

    /// Goes on behind what came.
    async fn resume(&mut self) -> Result<(), RegistryError> {
        self.answer = None;
        let host = self.registry.host().to_owned();
        let truncated = RegistryError::Truncated { host, got: self.got, wanted: self.size };
        self.left = self.left.checked_sub(1).ok_or(truncated)?;
        self.ask.from = self.got;
        let answer = self.registry.get(&self.ask).await?;
        // Who knows no ranges sends it from its begin.
        if self.got > 0 && answer.status() != StatusCode::PARTIAL_CONTENT {
            let host = self.registry.host().to_owned();
            return Err(RegistryError::Truncated { host, got: self.got, wanted: self.size });
        }
        self.answer = Some(answer);
        Ok(())
    }

    fn check(&self) -> Result<(), RegistryError> {
        let found = match &self.sum {
            Sum::Sha256(sum) => format!("sha256:{}", hex(&sum.clone().finalize())),
            Sum::Sha512(sum) => format!("sha512:{}", hex(&sum.clone().finalize())),
        };
        if found == self.digest.as_str() {
            return Ok(());
        }
        let (host, wanted) = (self.registry.host().to_owned(), self.digest.to_string());
        Err(RegistryError::Digest { host, what: "a blob", wanted, found })
    }
}
