//! What there is in a registry of any kind: its own way to list repositories, and the credentials that it takes.

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::aws::{self, AwsKey};
use crate::error::RegistryError;
use crate::filter::Filter;
use crate::kind::Kind;
use crate::name::Repository;
use crate::request::{Credentials, Options, Registry};

/// Most repositories of one registry that are listed.
pub const MAX_REPOSITORIES: usize = 50_000;
/// Things a page of an API, as we ask.
const PAGE: usize = 100;
/// Most pages of an API.
const MAX_PAGES: usize = 1_000;

/// How JFrog's registries are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JFrogMode {
    /// The repository is the first part of the path.
    #[default]
    RepositoryPath,
    /// The repository is the first part of the host's name.
    Subdomain,
    /// Each has a port, and the address is that of one.
    Port,
}

impl JFrogMode {
    /// By the contract's word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "" | "Repository Path" => Some(Self::RepositoryPath),
            "Subdomain" => Some(Self::Subdomain),
            "Port" => Some(Self::Port),
            _ => None,
        }
    }
}

/// A registry of some kind, and what it wants beside [`Options`].
#[derive(Clone, Debug, Default)]
pub struct KindOptions {
    /// Its kind.
    pub kind: Kind,
    /// Address, credentials, roots, proxy.
    pub options: Options,
    /// Amazon's.
    pub aws: Option<AwsKey>,
    /// Google's key as JSON.
    pub json_key: Option<SecretString>,
    /// JFrog's.
    pub jfrog: JFrogMode,
    /// Address of the API where that is not the registry's: GitLab's, OpenShift's, GitHub's, Amazon's.
    pub api: String,
    /// Token for the API: GitLab's private token, OpenShift's, GitHub's.
    pub api_token: Option<SecretString>,
    /// IBM's service for tokens.
    pub token_url: String,
    /// IBM's account.
    pub account: String,
}

/// A repository, and which registry has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Address of the registry.
    pub url: String,
    /// Its name there.
    pub repository: Repository,
}

/// A registry that was let in to.
#[derive(Debug)]
pub struct Catalog {
    kind: KindOptions,
    registry: Registry,
}

#[derive(Deserialize)]
struct Keyed {
    key: String,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct GitlabProject {
    id: u64,
}

#[derive(Deserialize)]
struct GitlabRepository {
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct IbmImage {
    repo_tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Streams {
    items: Vec<Stream>,
}

#[derive(Deserialize)]
struct Stream {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    namespace: String,
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
}

impl Catalog {
    /// Gets the credentials that the kind needs (Amazon's by a request signed at `time`, `20261126T060000Z`), and sets the
    /// client up.
    ///
    /// # Errors
    /// [`RegistryError`] says what is in the way.
    pub async fn open(mut kind: KindOptions, time: &str) -> Result<Self, RegistryError> {
        if let (Kind::Gcr, Some(key)) = (kind.kind, &kind.json_key) {
            let user = "_json_key".to_owned();
            kind.options.credentials = Some(Credentials::Password { user, password: key.clone() });
        }
        if let (Kind::Ecr, Some(key)) = (kind.kind, kind.aws.clone()) {
            let url = if kind.api.is_empty() { key.service() } else { kind.api.clone() };
            let service = Registry::new(Options { url, credentials: None, ..kind.options.clone() })?;
            let (body, headers) = key.request(service.host(), time);
            let answer = service.post("", &headers, body, "a token for the registry").await?;
            kind.options.credentials = Some(aws::credentials(service.host(), &answer)?);
        }
        let registry = Registry::new(kind.options.clone())?;
        Ok(Self { kind, registry })
    }

    /// The registry itself.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// How it is reached, with the credentials that were got.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.kind.options
    }

    /// The repositories that filters mean, sorted, at most `most` and [`MAX_REPOSITORIES`]. The kind's list is asked for only
    /// when a filter leaves names open.
    ///
    /// # Errors
    /// [`RegistryError`] says what is in the way.
    pub async fn repositories(&self, filters: &[Filter], most: usize) -> Result<Vec<Listed>, RegistryError> {
        let mut found: Vec<Listed> = Vec::new();
        let own = |name: &str| self.listed(&self.kind.options.url, name);
        found.extend(
            filters.iter().filter_map(Filter::repository).filter_map(|name| own(&self.hub_name(name))),
        );
        let open: Vec<&Filter> = filters.iter().filter(|filter| filter.repository().is_none()).collect();
        if !open.is_empty() {
            let listed = self.list(&open).await?;
            let meant =
                |one: &Listed| open.iter().any(|filter| filter.takes_repository(&self.full_name(one)));
            found.extend(listed.into_iter().filter(meant));
        }
        found.sort();
        found.dedup();
        found.truncate(most.min(MAX_REPOSITORIES));
        Ok(found)
    }

    /// The name that filters speak of: with JFrog's repository before it, where that is in the host's name.
    fn full_name(&self, one: &Listed) -> String {
        let name = one.repository.as_str();
        let subdomain = self.kind.kind == Kind::JFrog && self.kind.jfrog == JFrogMode::Subdomain;
        let host = one.url.split_once("://").map_or(one.url.as_str(), |(_, rest)| rest);
        match host.split_once('.').filter(|_| subdomain) {
            Some((first, _)) => format!("{first}/{name}"),
            None => name.to_owned(),
        }
    }

    /// A repository of Docker's hub without an organisation is one of `library`.
    fn hub_name(&self, name: &str) -> String {
        let hub = ["docker.io", "registry-1.docker.io", "registry.hub.docker.com", "index.docker.io"];
        if hub.contains(&self.registry.host()) && !name.contains('/') {
            format!("library/{name}")
        } else {
            name.to_owned()
        }
    }

    /// Names that are none are left out: nothing else can get into a path.
    fn listed(&self, url: &str, name: &str) -> Option<Listed> {
        Some(Listed { url: url.to_owned(), repository: name.parse().ok()? })
    }

    async fn list(&self, filters: &[&Filter]) -> Result<Vec<Listed>, RegistryError> {
        let url = &self.kind.options.url;
        let names = match self.kind.kind {
            Kind::Docker | Kind::Ecr | Kind::Acr | Kind::Gcr | Kind::Nexus => {
                self.catalog(&self.registry).await?
            }
            Kind::RedHat => return Err(self.lists_nothing("name repositories in the filters, without *")),
            Kind::JFrog => return self.jfrog().await,
            Kind::OpenShift => self.openshift().await?,
            Kind::Gitlab => self.gitlab().await?,
            Kind::Ibm => self.ibm().await?,
            Kind::Harbor => self.harbor().await?,
            Kind::Github => self.github(filters).await?,
        };
        Ok(names.iter().filter_map(|name| self.listed(url, name)).collect())
    }

    fn lists_nothing(&self, reason: &str) -> RegistryError {
        RegistryError::Malformed {
            host: self.registry.host().to_owned(),
            what: "the list of repositories",
            reason: format!("this kind of registry has none: {reason}"),
        }
    }

    /// Docker's `_catalog`.
    async fn catalog(&self, registry: &Registry) -> Result<Vec<String>, RegistryError> {
        let mut names = Vec::new();
        let mut pages = registry.repositories()?;
        while let Some(page) = pages.next().await? {
            names.extend(page);
            if names.len() >= MAX_REPOSITORIES {
                tracing::warn!(
                    host = registry.host(),
                    most = MAX_REPOSITORIES,
                    "a registry has more repositories"
                );
                break;
            }
        }
        Ok(names)
    }

    /// The API of a kind, with a token or with the registry's own user.
    fn api(&self, url: &str) -> Result<Registry, RegistryError> {
        let own = match &self.kind.options.credentials {
            Some(Credentials::Password { user, password }) => {
                Some(Credentials::Basic { user: user.clone(), password: password.clone() })
            }
            other => other.clone(),
        };
        let credentials = self.kind.api_token.clone().map(Credentials::Token).or(own);
        let url = if url.is_empty() { &self.kind.options.url } else { url };
        Registry::new(Options { url: url.to_owned(), credentials, ..self.kind.options.clone() })
    }

    /// All pages of a list that is asked for by number.
    async fn pages<T: DeserializeOwned>(
        &self,
        api: &Registry,
        path: &str,
        size: &str,
    ) -> Result<Vec<T>, RegistryError> {
        let mut all = Vec::new();
        let sign = if path.contains('?') { '&' } else { '?' };
        for page in 1..=MAX_PAGES {
            let found: Vec<T> = api.json(&format!("{path}{sign}page={page}&{size}={PAGE}")).await?;
            let last = found.len() < PAGE;
            all.extend(found);
            if last || all.len() >= MAX_REPOSITORIES {
                break;
            }
        }
        Ok(all)
    }

    /// Artifactory's REST API: local, remote and virtual repositories for Docker, each with a `_catalog`.
    async fn jfrog(&self) -> Result<Vec<Listed>, RegistryError> {
        let base = &self.kind.options.url;
        if self.kind.jfrog == JFrogMode::Port {
            let names = self.catalog(&self.registry).await?;
            return Ok(names.iter().filter_map(|name| self.listed(base, name)).collect());
        }
        let api = self.api("")?;
        let keys: Vec<Keyed> = api.json("artifactory/api/repositories?packageType=docker").await?;
        let mut found = Vec::new();
        for Keyed { key } in keys {
            // A key is one part of a path or of a host's name.
            if !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
                continue;
            }
            match self.kind.jfrog {
                JFrogMode::Subdomain => {
                    let Some((scheme, rest)) = base.split_once("://") else { continue };
                    let url = format!("{scheme}://{key}.{rest}");
                    let registry = Registry::new(Options { url: url.clone(), ..self.kind.options.clone() })?;
                    let names = self.catalog(&registry).await?;
                    found.extend(names.iter().filter_map(|name| self.listed(&url, name)));
                }
                JFrogMode::RepositoryPath | JFrogMode::Port => {
                    let url = format!("{}/artifactory/api/docker/{key}/", base.trim_end_matches('/'));
                    let registry = self.api(&url)?;
                    let names = self.catalog(&registry).await?;
                    found.extend(names.iter().filter_map(|name| self.listed(base, &format!("{key}/{name}"))));
                }
            }
        }
        Ok(found)
    }

    /// Harbor's API 2.0: projects, and repositories of each.
    async fn harbor(&self) -> Result<Vec<String>, RegistryError> {
        let api = self.api("")?;
        let projects: Vec<Named> = self.pages(&api, "api/v2.0/projects", "page_size").await?;
        let mut names = Vec::new();
        for Named { name } in projects {
            if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
                continue;
            }
            let path = format!("api/v2.0/projects/{name}/repositories");
            let of_project: Vec<Named> = self.pages(&api, &path, "page_size").await?;
            names.extend(of_project.into_iter().map(|repository| repository.name));
        }
        Ok(names)
    }

    /// GitLab's API 4: projects that the token is a member of, and registry repositories of each.
    async fn gitlab(&self) -> Result<Vec<String>, RegistryError> {
        if self.kind.api.is_empty() {
            return Err(self.lists_nothing("give GitLab's own address (gitlab_external_url)"));
        }
        let api = self.api(&self.kind.api)?;
        let projects: Vec<GitlabProject> =
            self.pages(&api, "api/v4/projects?membership=true&simple=true", "per_page").await?;
        let mut names = Vec::new();
        for GitlabProject { id } in projects {
            let path = format!("api/v4/projects/{id}/registry/repositories");
            match self.pages::<GitlabRepository>(&api, &path, "per_page").await {
                Ok(found) => names.extend(found.into_iter().map(|one| one.path)),
                // A project without a registry.
                Err(RegistryError::NotFound { .. } | RegistryError::Denied { status: 403, .. }) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(names)
    }

    /// IBM's API 1: an account's images, with a token of its identity service.
    async fn ibm(&self) -> Result<Vec<String>, RegistryError> {
        let Some(Credentials::Password { password, .. }) = &self.kind.options.credentials else {
            return Err(self.lists_nothing("give iamapikey as the user and an API key as the password"));
        };
        let identity = Registry::new(Options {
            url: self.kind.token_url.clone(),
            credentials: None,
            ..self.kind.options.clone()
        })?;
        let grant = "urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aapikey";
        let body = format!("grant_type={grant}&apikey={}", escape(password.expose_secret()));
        let headers = [("content-type", "application/x-www-form-urlencoded".to_owned())];
        let answer = identity.post("", &headers, body, "a token of the account").await?;
        let token: Token = serde_json::from_slice(&answer).map_err(|_no_token| RegistryError::Malformed {
            host: identity.host().to_owned(),
            what: "the token",
            reason: "no JSON with a token".to_owned(),
        })?;
        let api = Registry::new(Options {
            credentials: Some(Credentials::Token(token.access_token.into())),
            ..self.kind.options.clone()
        })?
        .with_header("account", &self.kind.account)?;
        let images: Vec<IbmImage> = api.json("api/v1/images").await?;
        let tags = images.into_iter().flat_map(|image| image.repo_tags.unwrap_or_default());
        // `us.icr.io/namespace/name:tag`
        let names = tags.filter_map(|tag| {
            let (_host, path) = tag.split_once('/')?;
            Some(path.rsplit_once(':').map_or(path, |(name, _)| name).to_owned())
        });
        Ok(names.collect())
    }

    /// Image streams of OpenShift's API.
    async fn openshift(&self) -> Result<Vec<String>, RegistryError> {
        if self.kind.api.is_empty() {
            return Err(
                self.lists_nothing("its image streams are in the cluster's API, whose address is not known")
            );
        }
        let api = self.api(&self.kind.api)?;
        let streams: Streams = api.json("apis/image.openshift.io/v1/imagestreams").await?;
        let names =
            streams.items.into_iter().map(|one| format!("{}/{}", one.metadata.namespace, one.metadata.name));
        Ok(names.collect())
    }

    /// GitHub's REST API: packages of the organisations that filters name.
    async fn github(&self, filters: &[&Filter]) -> Result<Vec<String>, RegistryError> {
        let url = if self.kind.api.is_empty() { "https://api.github.com/" } else { &self.kind.api };
        let token = match (&self.kind.api_token, &self.kind.options.credentials) {
            (Some(token), _) | (None, Some(Credentials::Token(token))) => Some(token),
            (None, Some(Credentials::Password { password, .. } | Credentials::Basic { password, .. })) => {
                Some(password)
            }
            (None, None) => None,
        };
        let credentials = token.cloned().map(Credentials::Token);
        let api = Registry::new(Options { url: url.to_owned(), credentials, ..self.kind.options.clone() })?;
        let mut names = Vec::new();
        for filter in filters {
            let Some(owner) = filter.organisation() else {
                return Err(self.lists_nothing("begin each filter with an organisation or user"));
            };
            let path = |of: &str| format!("{of}/{owner}/packages?package_type=container");
            let found = match self.pages::<Named>(&api, &path("orgs"), "per_page").await {
                Err(RegistryError::NotFound { .. }) => self.pages(&api, &path("users"), "per_page").await?,
                other => other?,
            };
            names.extend(found.into_iter().map(|package| format!("{owner}/{}", package.name)));
        }
        Ok(names)
    }
}

/// A value of a form (application/x-www-form-urlencoded).
fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&crate::request::hex(&[byte]).to_uppercase());
        }
        out
    })
}
