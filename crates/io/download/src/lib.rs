//! Files from elsewhere.
//!
//! A file is written beside its place (`NAME.part`) and put there when all of it has come and is what it should be. What
//! breaks off goes on from there, also in another run: with the mark by which its sender knows that version (`NAME.tag`,
//! an ETag or a date), so that two versions are never mixed. A file whose mark is still the sender's is not sent again.

mod error;
mod partial;

use std::path::Path;
use std::time::Duration;

use partial::Partial;
use reqwest::header::{
    CONTENT_RANGE, ETAG, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
    RETRY_AFTER,
};
use reqwest::{Client, Response, StatusCode, redirect};

pub use error::DownloadError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence in the middle of an answer.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_REDIRECTIONS: usize = 5;
/// Further tries of what failed for a reason that passes, one behind another without any progress.
const RETRIES: u32 = 4;
/// Tries of one file in all, whatever progress each makes.
const MAX_TRIES: u32 = 100;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A sender that asks to wait longer is reported instead.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How files are reached.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `http://host:port`, with user and password where it wants them; none connects directly, whatever the environment
    /// says.
    pub proxy: Option<String>,
}

/// One file.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Where it is.
    pub url: &'a str,
    /// Where it is to be put.
    pub path: &'a Path,
    /// Its largest size in bytes.
    pub most: u64,
    /// The SHA-256 that it must have, where that is known.
    pub sha256: Option<[u8; 32]>,
}

/// What came of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// It came as a whole.
    Whole {
        /// Its size.
        bytes: u64,
    },
    /// It went on from what an earlier try had left.
    Resumed {
        /// Its size.
        bytes: u64,
        /// How much of it was there before.
        from: u64,
    },
    /// The one that is there is still the sender's.
    Unchanged,
}

/// Fetches files.
#[derive(Clone, Debug)]
pub struct Downloader {
    client: Client,
}

impl Downloader {
    /// Sets the client up; nothing is sent yet.
    ///
    /// # Errors
    /// [`DownloadError::Setup`] for a proxy's address that is none.
    pub fn new(options: &Options) -> Result<Self, DownloadError> {
        let mut builder = Client::builder()
            .redirect(redirect::Policy::custom(follow))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE_TIMEOUT)
            .no_proxy();
        if let Some(proxy) = &options.proxy {
            builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(DownloadError::Setup)?);
        }
        Ok(Self { client: builder.build().map_err(DownloadError::Setup)? })
    }

    /// Fetches a file into its place.
    ///
    /// # Errors
    /// [`DownloadError`] says what is in the way; what came stays for the next time, unless it was other bytes than
    /// those that were wanted.
    pub async fn fetch(&self, wanted: &Wanted<'_>) -> Result<Fetched, DownloadError> {
        let partial = Partial::of(wanted.path);
        let from = partial.size();
        let mut failures = 0;
        let mut before = from;
        for _ in 0..MAX_TRIES {
            let pause = match self.attempt(wanted, &partial).await {
                Ok(Some(bytes)) => {
                    return Ok(if from > 0 {
                        Fetched::Resumed { bytes, from }
                    } else {
                        Fetched::Whole { bytes }
                    });
                }
                Ok(None) => return Ok(Fetched::Unchanged),
                Err(error) => {
                    let got = partial.size();
                    failures = if got > before { 0 } else { failures + 1 };
                    before = got;
                    if failures > RETRIES || !error.passes() {
                        return Err(error);
                    }
                    tracing::debug!(%error, url = wanted.url, got, "a file broke off");
                    error.pause().unwrap_or(FIRST_PAUSE * 2_u32.saturating_pow(failures))
                }
            };
            if pause > LONGEST_PAUSE {
                return Err(DownloadError::Busy { url: wanted.url.to_owned(), seconds: pause.as_secs() });
            }
            tokio::time::sleep(pause).await;
        }
        Err(DownloadError::Tries { url: wanted.url.to_owned(), tries: MAX_TRIES })
    }

    /// One try. The size of the file when it is in place, nothing when the one in place is still the sender's.
    async fn attempt(&self, wanted: &Wanted<'_>, partial: &Partial) -> Result<Option<u64>, DownloadError> {
        let url = || wanted.url.to_owned();
        let got = partial.size();
        let mut request = self.client.get(wanted.url);
        match partial.tag() {
            Some(tag) if got > 0 => {
                request = request.header(RANGE, format!("bytes={got}-")).header(IF_RANGE, tag);
            }
            Some(tag) if wanted.path.exists() => {
                let condition = if tag.contains('"') { IF_NONE_MATCH } else { IF_MODIFIED_SINCE };
                request = request.header(condition, tag);
            }
            _ => {}
        }
        let mut answer =
            request.send().await.map_err(|source| DownloadError::Connection { url: url(), source })?;
        let status = answer.status();
        let continues = status == StatusCode::PARTIAL_CONTENT && starts_at(answer.headers()) == Some(got);
        match status {
            StatusCode::NOT_MODIFIED => return Ok(None),
            StatusCode::RANGE_NOT_SATISFIABLE => {
                // What is there is not the beginning of what is sent now.
                partial.forget()?;
                return Err(DownloadError::Truncated { url: url(), got: 0 });
            }
            status if status.is_success() && (status != StatusCode::PARTIAL_CONTENT || continues) => {}
            status if status.is_success() => {
                partial.forget()?;
                return Err(DownloadError::Truncated { url: url(), got: 0 });
            }
            status => {
                let after = number(answer.headers(), RETRY_AFTER.as_str()).map(Duration::from_secs);
                return Err(DownloadError::Status { url: url(), status: status.as_u16(), after });
            }
        }
        let start = if continues { got } else { 0 };
        let length = answer.content_length();
        let whole = length.map(|length| start.saturating_add(length));
        if whole.is_some_and(|whole| whole > wanted.most) {
            return Err(DownloadError::Size { url: url(), most: wanted.most });
        }
        let mut file = partial.open(start, tag_of(answer.headers()))?;
        let mut size = start;
        while let Some(piece) = next(&mut answer, wanted.url).await? {
            size = size.saturating_add(piece.len() as u64);
            if size > wanted.most {
                partial.forget()?;
                return Err(DownloadError::Size { url: url(), most: wanted.most });
            }
            file.write(&piece)?;
        }
        if whole.is_some_and(|whole| whole != size) {
            return Err(DownloadError::Truncated { url: url(), got: size });
        }
        partial.finish(&file, wanted)?;
        Ok(Some(size))
    }
}

async fn next(
    answer: &mut Response,
    url: &str,
) -> Result<Option<impl AsRef<[u8]> + std::ops::Deref<Target = [u8]>>, DownloadError> {
    answer.chunk().await.map_err(|source| DownloadError::Connection { url: url.to_owned(), source })
}

/// Where a part of a file begins: `bytes 100-199/1000`.
fn starts_at(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// The mark of a version, where the sender gives one by which it can be known again (RFC 9110 §13.1.5): no weak one.
fn tag_of(headers: &HeaderMap) -> Option<String> {
    let strong = headers.get(ETAG).and_then(|tag| tag.to_str().ok()).filter(|tag| tag.starts_with('"'));
    let date = || headers.get(LAST_MODIFIED).and_then(|date| date.to_str().ok());
    strong.or_else(date).map(str::to_owned)
}

/// Follows a few times, and never from an encrypted connection to one that is not.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let was_encrypted = attempt.previous().iter().any(|url| url.scheme() == "https");
    if attempt.previous().len() > MAX_REDIRECTIONS {
        attempt.error("redirected too often")
    } else if was_encrypted && attempt.url().scheme() != "https" {
        attempt.error("redirected to a connection that is not encrypted")
    } else {
        attempt.follow()
    }
}
