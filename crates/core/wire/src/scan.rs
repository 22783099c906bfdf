//! Scanners: joining, greeting, tasks, databases.

use std::fmt;

use nv_model::name::ScannerId;
use nv_model::scan::{
    BlobId, DatabaseInfo, LayerCacheFacts, LayerCacheRecord, RegistryAccess, RegistryImage, ScanFailure,
    ScanTaskId,
};
use nv_model::time::Timestamp;

use nv_model::signature::{MAX_PEM_BYTES, MAX_ROOTS, MAX_VERIFIERS, RootOfTrust, Verifier, VerifierType};

use crate::bounds::{
    MAX_CACHE_RECORDS, MAX_CERTIFICATE_BYTES, MAX_CERTIFICATES, MAX_CHANGED_PACKAGES, MAX_CREDITS,
    MAX_TEXT_BYTES, MAX_TOKEN_BYTES, MAX_WORD_BYTES,
};
use crate::error::WireError;
use crate::read::{Read, clip, length, list, parse, required, text, time};
use crate::scanner::v1 as proto;

/// A scanner's request to join, checked. The token is a secret: it is not in the `Debug` form.
pub struct ScannerJoin {
    /// Token for scanners.
    pub token: String,
    /// The scanner that asks.
    pub scanner: ScannerId,
    /// Certificate signing request, DER.
    pub signing_request: Vec<u8>,
}

impl fmt::Debug for ScannerJoin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScannerJoin").field("scanner", &self.scanner).finish_non_exhaustive()
    }
}

impl TryFrom<proto::JoinRequest> for ScannerJoin {
    type Error = WireError;
    fn try_from(raw: proto::JoinRequest) -> Read<Self> {
        length("signing_request", raw.signing_request.len(), MAX_CERTIFICATE_BYTES)?;
        Ok(Self {
            token: text("token", raw.token, MAX_TOKEN_BYTES)?,
            scanner: parse("scanner_id", &raw.scanner_id)?,
            signing_request: raw.signing_request,
        })
    }
}

/// What a scanner says first, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannerGreeting {
    /// Product version.
    pub version: String,
    /// How it may be known in lists: its host's name or address.
    pub server: String,
    /// Tasks that it takes at one time, 1 to [`MAX_CREDITS`].
    pub credits: u32,
    /// The database that it has.
    pub database: Option<DatabaseInfo>,
}

impl TryFrom<proto::Hello> for ScannerGreeting {
    type Error = WireError;
    fn try_from(raw: proto::Hello) -> Read<Self> {
        if raw.credits == 0 || raw.credits > MAX_CREDITS {
            return Err(WireError::range("credits", i64::from(raw.credits)));
        }
        Ok(Self {
            version: text("version", raw.version, MAX_WORD_BYTES)?,
            server: text("server", raw.server, MAX_WORD_BYTES)?,
            credits: raw.credits,
            database: raw
                .database
                .map(|raw| raw.try_into().map_err(|error: WireError| error.under("database")))
                .transpose()?,
        })
    }
}

impl From<ScannerGreeting> for proto::Hello {
    fn from(model: ScannerGreeting) -> Self {
        Self {
            version: clip(model.version, MAX_WORD_BYTES),
            server: clip(model.server, MAX_WORD_BYTES),
            credits: model.credits.clamp(1, MAX_CREDITS),
            database: model.database.map(Into::into),
        }
    }
}

impl TryFrom<proto::Database> for DatabaseInfo {
    type Error = WireError;
    fn try_from(raw: proto::Database) -> Read<Self> {
        if raw.content.is_empty() {
            return Err(WireError::missing("content"));
        }
        Ok(Self {
            version: raw.version,
            created: time(raw.created),
            content: text("content", raw.content, MAX_WORD_BYTES)?,
        })
    }
}

impl From<DatabaseInfo> for proto::Database {
    fn from(model: DatabaseInfo) -> Self {
        Self { version: model.version, created: model.created.nanos(), content: model.content }
    }
}

/// What a scanner is to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScanWork {
    /// Pull this image.
    Image(Box<RegistryImage>),
    /// Match this inventory, which is a blob of the controller.
    Inventory(BlobId),
}

/// A task, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanTask {
    /// Its number.
    pub id: ScanTaskId,
    /// What it is about, for the log.
    pub subject: String,
    /// What is to be looked at.
    pub work: ScanWork,
}

impl TryFrom<proto::Task> for ScanTask {
    type Error = WireError;
    fn try_from(raw: proto::Task) -> Read<Self> {
        use proto::task::Source;
        let work = match required("source", raw.source)? {
            Source::Image(image) => {
                ScanWork::Image(Box::new(image.try_into().map_err(|error: WireError| error.under("image"))?))
            }
            Source::Inventory(blob) => ScanWork::Inventory(parse("inventory", &blob)?),
        };
        Ok(Self { id: ScanTaskId(raw.id), subject: text("subject", raw.subject, MAX_TEXT_BYTES)?, work })
    }
}

impl From<ScanTask> for proto::Task {
    fn from(model: ScanTask) -> Self {
        use proto::task::Source;
        Self {
            id: model.id.0,
            subject: clip(model.subject, MAX_TEXT_BYTES),
            source: Some(match model.work {
                ScanWork::Image(image) => Source::Image((*image).into()),
                ScanWork::Inventory(blob) => Source::Inventory(blob.to_string()),
            }),
        }
    }
}

impl TryFrom<proto::Image> for RegistryImage {
    type Error = WireError;
    fn try_from(raw: proto::Image) -> Read<Self> {
        Ok(Self {
            access: required("access", raw.access)?
                .try_into()
                .map_err(|error: WireError| error.under("access"))?,
            repository: text("repository", raw.repository, MAX_TEXT_BYTES)?,
            reference: text("reference", raw.reference, MAX_TEXT_BYTES)?,
            layers: raw.layers,
            base_image: text("base_image", raw.base_image, MAX_TEXT_BYTES)?,
            roots_of_trust: {
                length("roots_of_trust", raw.roots_of_trust.len(), MAX_ROOTS)?;
                raw.roots_of_trust.into_iter().map(root).collect::<Read<_>>()?
            },
        })
    }
}

impl From<RegistryImage> for proto::Image {
    fn from(model: RegistryImage) -> Self {
        Self {
            access: Some(model.access.into()),
            repository: model.repository,
            reference: model.reference,
            layers: model.layers,
            base_image: model.base_image,
            roots_of_trust: model.roots_of_trust.into_iter().take(MAX_ROOTS).map(root_message).collect(),
        }
    }
}

fn root(raw: proto::RootOfTrust) -> Read<RootOfTrust> {
    let pem = |path: &str, raw: String| text(path, raw, MAX_PEM_BYTES);
    length("verifiers", raw.verifiers.len(), MAX_VERIFIERS)?;
    Ok(RootOfTrust {
        name: text("name", raw.name, MAX_TEXT_BYTES)?,
        is_private: raw.is_private,
        rootless_keypairs_only: raw.rootless_keypairs_only,
        rekor_public_key: pem("rekor_public_key", raw.rekor_public_key)?,
        root_cert: pem("root_cert", raw.root_cert)?,
        sct_public_key: pem("sct_public_key", raw.sct_public_key)?,
        comment: String::new(),
        verifiers: raw.verifiers.into_iter().map(verifier).collect::<Read<_>>()?,
    })
}

fn verifier(raw: proto::Verifier) -> Read<Verifier> {
    Ok(Verifier {
        name: text("name", raw.name, MAX_TEXT_BYTES)?,
        verifier_type: if raw.keypair { VerifierType::Keypair } else { VerifierType::Keyless },
        public_key: text("public_key", raw.public_key, MAX_PEM_BYTES)?,
        cert_issuer: text("cert_issuer", raw.cert_issuer, MAX_TEXT_BYTES)?,
        cert_subject: text("cert_subject", raw.cert_subject, MAX_TEXT_BYTES)?,
        comment: String::new(),
    })
}

fn root_message(model: RootOfTrust) -> proto::RootOfTrust {
    let verifiers = model.verifiers.into_iter().take(MAX_VERIFIERS).map(|verifier| proto::Verifier {
        name: verifier.name,
        keypair: verifier.verifier_type == VerifierType::Keypair,
        public_key: verifier.public_key,
        cert_issuer: verifier.cert_issuer,
        cert_subject: verifier.cert_subject,
    });
    proto::RootOfTrust {
        name: model.name,
        is_private: model.is_private,
        rootless_keypairs_only: model.rootless_keypairs_only,
        rekor_public_key: model.rekor_public_key,
        root_cert: model.root_cert,
        sct_public_key: model.sct_public_key,
        verifiers: verifiers.collect(),
    }
}

impl TryFrom<proto::RegistryAccess> for RegistryAccess {
    type Error = WireError;
    fn try_from(raw: proto::RegistryAccess) -> Read<Self> {
        length("roots", raw.roots.len(), MAX_CERTIFICATES)?;
        for root in &raw.roots {
            length("roots certificate", root.len(), MAX_CERTIFICATE_BYTES)?;
        }
        let short = |path: &str, raw: String| text(path, raw, MAX_TEXT_BYTES);
        Ok(Self {
            url: short("url", raw.url)?,
            username: short("username", raw.username)?,
            password: text("password", raw.password, MAX_CERTIFICATE_BYTES)?,
            token: text("token", raw.token, MAX_CERTIFICATE_BYTES)?,
            roots: raw.roots,
            accept_any_certificate: raw.accept_any_certificate,
            proxy: short("proxy", raw.proxy)?,
            proxy_username: short("proxy_username", raw.proxy_username)?,
            proxy_password: short("proxy_password", raw.proxy_password)?,
        })
    }
}

impl From<RegistryAccess> for proto::RegistryAccess {
    fn from(model: RegistryAccess) -> Self {
        Self {
            url: model.url,
            username: model.username,
            password: model.password,
            token: model.token,
            roots: model.roots,
            accept_any_certificate: model.accept_any_certificate,
            proxy: model.proxy,
            proxy_username: model.proxy_username,
            proxy_password: model.proxy_password,
        }
    }
}

/// Number of the task and why it failed.
///
/// # Errors
/// [`WireError`] for a reason that is too long.
pub fn scan_failed(raw: proto::Failed) -> Result<(ScanTaskId, ScanFailure), WireError> {
    let message = text("message", raw.message, MAX_TEXT_BYTES)?;
    Ok((ScanTaskId(raw.task), ScanFailure { message, retry: raw.retry }))
}

/// A failure for the wire.
#[must_use]
pub fn failed_scan(task: ScanTaskId, failure: ScanFailure) -> proto::Failed {
    proto::Failed { task: task.0, message: clip(failure.message, MAX_TEXT_BYTES), retry: failure.retry }
}

/// A database that a scanner uses from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatabaseChange {
    /// Which one.
    pub database: DatabaseInfo,
    /// Content of the one before; empty for none.
    pub replaced: String,
    /// Names of packages of which the two say something else; `None` for too many to tell.
    pub changed: Option<Vec<String>>,
}

impl TryFrom<proto::DatabaseInUse> for DatabaseChange {
    type Error = WireError;
    fn try_from(raw: proto::DatabaseInUse) -> Read<Self> {
        length("changed", raw.changed.len(), MAX_CHANGED_PACKAGES)?;
        for name in &raw.changed {
            length("changed name", name.len(), MAX_TEXT_BYTES)?;
        }
        Ok(Self {
            database: required("database", raw.database)?
                .try_into()
                .map_err(|error: WireError| error.under("database"))?,
            replaced: text("replaced", raw.replaced, MAX_WORD_BYTES)?,
            changed: (!raw.all).then_some(raw.changed),
        })
    }
}

impl From<DatabaseChange> for proto::DatabaseInUse {
    fn from(model: DatabaseChange) -> Self {
        let fits = |names: &Vec<String>| {
            names.len() <= MAX_CHANGED_PACKAGES && names.iter().all(|name| name.len() <= MAX_TEXT_BYTES)
        };
        let changed = model.changed.filter(fits);
        Self {
            database: Some(model.database.into()),
            replaced: model.replaced,
            all: changed.is_none(),
            changed: changed.unwrap_or_default(),
        }
    }
}

impl TryFrom<proto::LayerRecord> for LayerCacheRecord {
    type Error = WireError;
    fn try_from(raw: proto::LayerRecord) -> Read<Self> {
        Ok(Self {
            layer: text("cache.layer", raw.layer, MAX_WORD_BYTES)?,
            bytes: raw.bytes,
            references: raw.references,
            last_used: Timestamp::from_nanos(raw.last_used),
        })
    }
}

impl TryFrom<proto::LayerCache> for LayerCacheFacts {
    type Error = WireError;
    fn try_from(raw: proto::LayerCache) -> Read<Self> {
        Ok(Self {
            count: raw.count,
            bytes: raw.bytes,
            hits: raw.hits,
            misses: raw.misses,
            records: list("cache.records", raw.records, MAX_CACHE_RECORDS)?,
        })
    }
}

/// What a scanner answers to the question `id`.
#[must_use]
pub fn layer_cache(id: u64, model: LayerCacheFacts) -> proto::LayerCache {
    let record = |model: LayerCacheRecord| proto::LayerRecord {
        layer: model.layer,
        bytes: model.bytes,
        references: model.references,
        last_used: model.last_used.nanos(),
    };
    proto::LayerCache {
        id,
        count: model.count,
        bytes: model.bytes,
        hits: model.hits,
        misses: model.misses,
        records: model.records.into_iter().map(record).collect(),
    }
}
