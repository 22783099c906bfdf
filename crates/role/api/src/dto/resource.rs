//! Custom resources: what is exported and imported as YAML, alone or in a list.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Group and version of the resources.
pub const API_VERSION: &str = "neuvector.com/v1";

/// A value, and the line of the file that it begins in; 0 for one that is in no file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct At<T> {
    /// The line, from 1.
    pub line: u64,
    /// The value.
    pub value: T,
}

impl<T> From<T> for At<T> {
    fn from(value: T) -> Self {
        Self { line: 0, value }
    }
}

impl<T: Serialize> Serialize for At<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = serde_saphyr::Spanned::<T>::deserialize(deserializer)?;
        Ok(Self { line: found.referenced.line(), value: found.value })
    }
}

/// Several resources of one kind.
#[derive(Debug, Serialize)]
pub struct ResourceList<S> {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    items: Vec<Resource<S>>,
    kind: &'static str,
    metadata: Option<()>,
}

/// A resource, or several.
#[derive(Debug, Deserialize, Serialize)]
#[serde(bound(deserialize = "S: Deserialize<'de>"))]
pub struct Resource<S> {
    /// Group and version.
    #[serde(rename = "apiVersion", default)]
    pub api_version: String,
    /// Of a list: its members.
    #[serde(default, skip_serializing)]
    pub items: Option<Vec<At<Resource<S>>>>,
    /// What it is.
    #[serde(default)]
    pub kind: String,
    /// Its name.
    #[serde(default)]
    pub metadata: Option<Metadata>,
    /// What it says.
    #[serde(default)]
    pub spec: Option<S>,
}

/// Who a resource is.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Metadata {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its namespace; absent for those of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

impl<S> Resource<S> {
    /// One of this kind and name.
    #[must_use]
    pub fn new(kind: &str, metadata: Metadata, spec: S) -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            items: None,
            kind: kind.to_owned(),
            metadata: Some(metadata),
            spec: Some(spec),
        }
    }
}

impl<S> ResourceList<S> {
    /// Of these.
    #[must_use]
    pub const fn of(items: Vec<Resource<S>>) -> Self {
        Self { api_version: "v1", items, kind: "List", metadata: None }
    }
}
