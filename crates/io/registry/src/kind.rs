//! Kinds of registries, by the contract's words.

/// How a registry lists what it has, and what it wants of whoever reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The distribution specification alone.
    #[default]
    Docker,
    /// Amazon's: a token by a signed request.
    Ecr,
    /// Azure's.
    Acr,
    /// Google's: a key in JSON as the password.
    Gcr,
    /// JFrog's: its own list of repositories, each a registry of its own.
    JFrog,
    /// OpenShift's: image streams of its API.
    OpenShift,
    /// Red Hat's public one, which lists nothing.
    RedHat,
    /// Sonatype's.
    Nexus,
    /// GitLab's: repositories by projects of its API.
    Gitlab,
    /// IBM's: images of its API.
    Ibm,
    /// Harbor: repositories by projects of its API.
    Harbor,
    /// GitHub's, which lists nothing: packages of its API.
    Github,
}

impl Kind {
    /// All of them, as the contract orders them.
    pub const ALL: [Self; 12] = [
        Self::Docker,
        Self::Ecr,
        Self::Acr,
        Self::Gcr,
        Self::JFrog,
        Self::OpenShift,
        Self::RedHat,
        Self::Nexus,
        Self::Gitlab,
        Self::Ibm,
        Self::Harbor,
        Self::Github,
    ];

    /// The contract's word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Docker => "Docker Registry",
            Self::Ecr => "Amazon ECR Registry",
            Self::Acr => "Azure Container Registry",
            Self::Gcr => "Google Container Registry",
            Self::JFrog => "JFrog Artifactory",
            Self::OpenShift => "OpenShift Registry",
            Self::RedHat => "Red Hat Public Registry",
            Self::Nexus => "Sonatype Nexus",
            Self::Gitlab => "Gitlab",
            Self::Ibm => "IBM Cloud Container Registry",
            Self::Harbor => "Harbor Registry",
            Self::Github => "GitHub Container Registry",
        }
    }

    /// By its word, or the one that Red Hat's had before.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "Red Hat/OpenShift Registry" {
            return Some(Self::RedHat);
        }
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}
