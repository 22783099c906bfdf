//! One look at a registry: what it lists, what the tags name, and which of that are images.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use nv_layer::{Image, Manifest};
use nv_model::registry::{ListedImage, MAX_IMAGES, RegistryConfig};
use nv_model::scan::RegistryAccess;
use nv_model::time::Timestamp;
use nv_registry::{
    AwsKey, Catalog, Credentials, Digest, Filter, JFrogMode, Kind, KindOptions, Listed, MAX_REPOSITORIES,
    Options, Reference, Registry, RegistryError, Repository, is_beside,
};
use secrecy::{ExposeSecret as _, SecretString};

use super::reach::Reach;

/// Most tags of one repository that are looked at.
const MAX_TAGS: usize = 4_096;
/// Largest configuration of an image.
const MAX_CONFIG: u64 = 16 * 1024 * 1024;
/// Most faults of one look that are told.
const MAX_FAULTS: usize = 100;
/// The platform whose image is meant of several.
const PLATFORM: &str = "linux/amd64";
/// Largest list of images that is read from a file.
const MAX_FILE: u64 = 256 * 1024 * 1024;

/// What a look has found.
pub(super) struct Looked {
    pub(super) images: Vec<ListedImage>,
    pub(super) faults: Vec<String>,
    /// How scanners reach it.
    pub(super) access: RegistryAccess,
}

/// A registry as its kind wants it, reached so.
#[must_use]
pub fn kind_options(config: &RegistryConfig, reach: Reach) -> KindOptions {
    let secret = |text: &str| (!text.is_empty()).then(|| SecretString::from(text.to_owned()));
    let kind = Kind::from_name(&config.kind).unwrap_or_default();
    let credentials = if config.auth_with_token {
        secret(&config.auth_token).map(Credentials::Token)
    } else {
        let user = config.username.clone();
        secret(&config.password)
            .filter(|_| !user.is_empty())
            .map(|password| Credentials::Password { user, password })
    };
    let aws = secret(&config.aws_secret_access_key).map(|secret_key| AwsKey {
        account: config.aws_id.clone(),
        region: config.aws_region.clone(),
        access_key: config.aws_access_key_id.clone(),
        secret_key,
    });
    KindOptions {
        kind,
        options: reach.options(Options { url: config.url.clone(), credentials, ..Options::default() }),
        aws,
        json_key: secret(&config.gcr_json_key),
        jfrog: JFrogMode::from_name(&config.jfrog_mode).unwrap_or_default(),
        api: config.gitlab_external_url.clone(),
        api_token: secret(&config.gitlab_private_token),
        token_url: config.ibm_cloud_token_url.clone(),
        account: config.ibm_cloud_account.clone(),
    }
}

/// How scanners reach a registry.
fn access(options: &Options) -> RegistryAccess {
    let mut access = RegistryAccess {
        url: options.url.clone(),
        roots: options.roots.clone(),
        ..RegistryAccess::default()
    };
    if let Some(proxy) = &options.proxy {
        access.proxy.clone_from(&proxy.url);
        if let Some((user, password)) = &proxy.credentials {
            access.proxy_username.clone_from(user);
            password.expose_secret().clone_into(&mut access.proxy_password);
        }
    }
    match &options.credentials {
        Some(Credentials::Password { user, password } | Credentials::Basic { user, password }) => {
            access.username.clone_from(user);
            password.expose_secret().clone_into(&mut access.password);
        }
        Some(Credentials::Token(token)) => token.expose_secret().clone_into(&mut access.token),
        None => {}
    }
    access
}

/// Amazon's form of a time: `20261126T060000Z`.
fn basic_time(now: Timestamp) -> String {
    let text = now.rfc3339();
    let digits: String = text.chars().take(19).filter(|c| !"-:".contains(*c)).collect();
    format!("{digits}Z")
}

fn filters(config: &RegistryConfig) -> Vec<Filter> {
    config.filters.iter().filter_map(|filter| filter.parse().ok()).collect()
}

fn bound(limit: u32, most: usize) -> usize {
    usize::try_from(limit).ok().filter(|limit| *limit > 0).map_or(most, |limit| limit.min(most))
}

/// Asks a registry for what it has, and for nothing of it: steps with what came of each.
pub async fn try_registry(config: &RegistryConfig, reach: Reach, now: Timestamp) -> Vec<(String, String)> {
    let mut steps = Vec::new();
    let catalog = match Catalog::open(kind_options(config, reach), &basic_time(now)).await {
        Ok(catalog) => catalog,
        Err(error) => return vec![("credentials".to_owned(), nv_telemetry::chain(&error))],
    };
    let said = |outcome: Result<String, RegistryError>| match outcome {
        Ok(what) => what,
        Err(error) => nv_telemetry::chain(&error),
    };
    steps.push(("API V2".to_owned(), said(catalog.registry().check().await.map(|()| "ok".to_owned()))));
    let listed = catalog.repositories(&filters(config), MAX_REPOSITORIES).await;
    let names = |listed: Vec<Listed>| {
        let first: Vec<&str> = listed.iter().take(20).map(|one| one.repository.as_str()).collect();
        format!("{} repositories: {}", listed.len(), first.join(", "))
    };
    steps.push(("repositories".to_owned(), said(listed.map(names))));
    steps
}

/// Looks at a registry.
pub(super) async fn look(
    config: &RegistryConfig,
    reach: Reach,
    now: Timestamp,
) -> Result<Looked, RegistryError> {
    let catalog = Catalog::open(kind_options(config, reach), &basic_time(now)).await?;
    let filters = filters(config);
    let listed = catalog.repositories(&filters, bound(config.repo_limit, MAX_REPOSITORIES)).await?;
    let mut looked = Looked { images: Vec::new(), faults: Vec::new(), access: access(catalog.options()) };
    let mut registries: HashMap<String, Registry> = HashMap::new();
    for Listed { url, repository } in listed {
        let registry = match registries.entry(url.clone()) {
            std::collections::hash_map::Entry::Occupied(held) => held.into_mut(),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(Registry::new(Options { url: url.clone(), ..catalog.options().clone() })?)
            }
        };
        let tags = match tags(registry, &repository, &filters, bound(config.tag_limit, MAX_TAGS)).await {
            Ok(tags) => tags,
            Err(error) => {
                looked.fault(&repository, &error);
                continue;
            }
        };
        for tag in tags {
            if looked.images.len() >= MAX_IMAGES {
                looked.faults.push(format!("more than {MAX_IMAGES} images: the rest is not scanned"));
                return Ok(looked);
            }
            match image(registry, &repository, &tag).await {
                Ok(Some(image)) => looked.images.push(ListedImage { domain: url.clone(), tag, ..image }),
                // A chart, a signature or another artefact.
                Ok(None) => {}
                Err(error) => looked.fault(&format!("{repository}:{tag}"), &error),
            }
        }
    }
    Ok(looked)
}

impl Looked {
    fn fault(&mut self, what: &dyn std::fmt::Display, error: &RegistryError) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(format!("{what}: {}", nv_telemetry::chain(error)));
        }
    }
}

/// The tags that are meant, the last in natural order when there are more than `most`.
async fn tags(
    registry: &Registry,
    repository: &Repository,
    filters: &[Filter],
    most: usize,
) -> Result<Vec<String>, RegistryError> {
    // Filters speak of names with a registry's own part before them, too.
    let name = repository.as_str();
    let of: Vec<&Filter> = filters
        .iter()
        .filter(|filter| {
            let wanted = filter.repository();
            filter.takes_repository(name) || wanted.is_none_or(|wanted| name.ends_with(&format!("/{wanted}")))
        })
        .collect();
    // Tags that are all named need no list.
    let named: Option<Vec<String>> = of.iter().map(|filter| filter.tag().map(str::to_owned)).collect();
    if let Some(mut named) = named.filter(|named| !named.is_empty()) {
        named.sort();
        named.dedup();
        return Ok(named);
    }
    let mut found = Vec::new();
    let mut pages = registry.tags(repository)?;
    while let Some(page) = pages.next().await? {
        found.extend(page.into_iter().filter(|tag| {
            !is_beside(tag)
                && of.iter().any(|filter| filter.takes_tag(tag))
                && tag.parse::<Reference>().is_ok()
        }));
        if found.len() > 4 * MAX_TAGS {
            break;
        }
    }
    found.sort_by(|one, other| natural(one).cmp(&natural(other)));
    let first = found.len().saturating_sub(most);
    Ok(found.split_off(first))
}

/// Digits as numbers, so that 1.10 is behind 1.9.
fn natural(tag: &str) -> Vec<(u64, &str)> {
    let mut parts = Vec::new();
    let mut rest = tag;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (word, behind) = after.split_at(letters);
        parts.push((number.parse().unwrap_or(0), word));
        rest = behind;
    }
    parts
}

/// What a tag names, when that is an image.
async fn image(
    registry: &Registry,
    repository: &Repository,
    tag: &str,
) -> Result<Option<ListedImage>, RegistryError> {
    let malformed = |reason: String| RegistryError::Malformed {
        host: registry.host().to_owned(),
        what: "an image",
        reason,
    };
    let reference: Reference =
        tag.parse().map_err(|error: nv_registry::NameError| malformed(error.to_string()))?;
    let top = registry.manifest(repository, &reference).await?;
    let parse = |manifest: &nv_registry::Manifest| {
        Manifest::parse(manifest.digest.as_str(), &manifest.bytes)
            .map_err(|error| malformed(nv_telemetry::chain(&error)))
    };
    let digest = |text: &str| text.parse::<Digest>().map_err(|error| malformed(error.to_string()));
    let manifest = match parse(&top)? {
        Manifest::Index(images) => {
            let meant = images.iter().find(|one| one.platform == PLATFORM);
            let Some(meant) = meant.or(images.first().filter(|_| images.len() == 1)) else { return Ok(None) };
            let found = registry.manifest(repository, &Reference::Digest(digest(&meant.digest)?)).await?;
            parse(&found)?
        }
        other => other,
    };
    let Manifest::Image(manifest) = manifest else { return Ok(None) };
    let (id, size) = manifest.config();
    if size > MAX_CONFIG {
        return Err(malformed(format!("its configuration has {size} bytes")));
    }
    let mut blob = registry.blob(repository, &digest(id)?, size).await?;
    let mut config = Vec::new();
    while let Some(piece) = blob.next().await? {
        config.extend_from_slice(&piece);
    }
    let read: Image = manifest.image(&config).map_err(|error| malformed(nv_telemetry::chain(&error)))?;
    let root = read.user.split(':').next().unwrap_or_default();
    Ok(Some(ListedImage {
        domain: String::new(),
        repository: repository.to_string(),
        tag: tag.to_owned(),
        digest: top.digest.to_string(),
        id: read.id.strip_prefix("sha256:").unwrap_or(&read.id).to_owned(),
        created: read.created,
        author: read.author,
        size: read.layers.iter().map(|layer| layer.size).sum(),
        run_as_root: matches!(root, "" | "root" | "0"),
        layers: read.layers.iter().map(|layer| layer.digest().to_owned()).collect(),
        labels: read.labels,
    }))
}

/// Where a registry's images are kept: only letters and digits of the name get into the path.
fn place(folder: &Path, name: &str) -> PathBuf {
    let file: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    folder.join(format!("{file}.json"))
}

/// The images that a registry had when it was last looked at.
pub(super) fn remembered(folder: &Path, name: &str) -> Vec<ListedImage> {
    let path = place(folder, name);
    let small = fs::metadata(&path).is_ok_and(|stat| stat.len() <= MAX_FILE);
    let read = small.then(|| fs::read(&path).ok()).flatten();
    read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Keeps the images of a registry: written beside and renamed, so that no half of it is ever read.
pub(super) fn remember(folder: &Path, name: &str, images: &[ListedImage]) {
    let path = place(folder, name);
    let beside = path.with_extension("new");
    let written = serde_json::to_vec(images)
        .map_err(std::io::Error::other)
        .and_then(|bytes| fs::create_dir_all(folder).and_then(|()| fs::write(&beside, bytes)))
        .and_then(|()| fs::rename(&beside, &path));
    if let Err(error) = written {
        tracing::warn!(%error, registry = name, "what a registry has could not be kept");
    }
}

/// Forgets the images of a registry.
pub(super) fn forget(folder: &Path, name: &str) {
    match fs::remove_file(place(folder, name)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, registry = name, "the list of a registry's images stays");
        }
        Ok(()) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_in_the_order_of_their_numbers() {
        let mut tags = vec!["1.10", "1.9", "latest", "1.9-rc2", "1.9-rc10", "2"];
        tags.sort_by(|one, other| natural(one).cmp(&natural(other)));
        assert_eq!(tags, ["latest", "1.9", "1.9-rc2", "1.9-rc10", "1.10", "2"]);
    }

    #[test]
    fn a_time_is_written_as_amazon_wants_it() {
        assert_eq!(basic_time(Timestamp::from_seconds(1_440_938_160)), "20150830T123600Z");
    }

    #[test]
    fn a_registrys_images_are_kept_whatever_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let images = vec![ListedImage { id: "1".to_owned(), ..ListedImage::default() }];
        remember(folder.path(), "../x/y", &images);
        assert_eq!(remembered(folder.path(), "../x/y"), images);
        forget(folder.path(), "../x/y");
        assert_eq!(remembered(folder.path(), "../x/y"), []);
    }
}
