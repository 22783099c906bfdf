//! Which files say what is installed, by their paths below the root.

use crate::inventory::Inventory;
use crate::read::read_slice;
use crate::{
    apk, bitnami, conan, dart, dotnet, dpkg, elixir, go, java, known_program, node, php, python, r, rpm,
    ruby, rust, swift, wordpress,
};

/// A file that says what is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// `*.dist-info/METADATA`, `*.egg-info/PKG-INFO`, `*.egg-info`: one installed Python package.
    PythonMetadata,
    /// `requirements.txt`, `requirements-*.txt`: versions pinned with `==`.
    Requirements,
    /// `Pipfile.lock`.
    PipfileLock,
    /// `poetry.lock`, `uv.lock`, `pdm.lock`, `pylock.toml`, `pylock.*.toml`.
    PythonLock,
    /// `node_modules/**/package.json`: one installed npm package.
    NodePackage,
    /// `package-lock.json`, `npm-shrinkwrap.json`.
    NpmLock,
    /// `yarn.lock`.
    YarnLock,
    /// `pnpm-lock.yaml`.
    PnpmLock,
    /// `var/lib/dpkg/status`, `var/lib/dpkg/status.d/*`.
    Dpkg,
    /// `var/lib/dpkg/info/*.list`: the files that a package holds.
    DpkgList,
    /// `usr/share/doc/NAME/copyright`: the licences of a package of dpkg.
    DebianCopyright,
    /// `lib/apk/db/installed`, `usr/lib/apk/db/installed`.
    Apk,
    /// `Packages`, `Packages.db` or `rpmdb.sqlite` of rpm.
    Rpm,
    /// `*.jar`, `*.war`, `*.ear` and others of their kind.
    JavaArchive,
    /// `go.mod`.
    GoMod,
    /// `Cargo.lock`.
    CargoLock,
    /// `specifications/**/*.gemspec`: one installed gem.
    Gemspec,
    /// `Gemfile.lock`, `gems.locked`.
    GemfileLock,
    /// `composer.lock`.
    ComposerLock,
    /// `vendor/composer/installed.json`.
    ComposerInstalled,
    /// `*.deps.json` of .NET.
    DotnetDeps,
    /// `packages.lock.json` of NuGet.
    NugetLock,
    /// `packages.config`, `Directory.Packages.props`.
    NugetReferences,
    /// `pom.xml` in a source tree.
    MavenPom,
    /// `gradle.lockfile`.
    GradleLock,
    /// `bun.lock`.
    BunLock,
    /// `conan.lock`.
    ConanLock,
    /// `pubspec.lock`.
    PubspecLock,
    /// `Package.resolved`.
    SwiftResolved,
    /// `Podfile.lock`.
    PodfileLock,
    /// `mix.lock`.
    MixLock,
    /// `*library/NAME/DESCRIPTION`: one installed R package.
    RDescription,
    /// `.bitnami_components.json`.
    BitnamiComponents,
    /// `release` beside a Java runtime.
    JavaRelease,
    /// `wp-includes/version.php`.
    WordPressVersion,
    /// `wp-content/plugins/NAME/NAME.php`.
    WordPressPlugin,
}

/// Folders of installed packages: a lock file in there is of the package's own development and locks nothing here.
const INSTALLED: [&str; 7] =
    ["node_modules/", "site-packages/", "dist-packages/", "gems/", "vendor/", "usr/share/", ".cargo/"];

impl FileKind {
    /// The kind of a file by its path below the root.
    pub fn of(path: &str) -> Option<Self> {
        if let Some(kind) = of_system(path) {
            return Some(kind);
        }
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = folder.rsplit('/').next().unwrap_or_default();
        let installed = match file {
            "METADATA" if parent.ends_with(".dist-info") => Some(Self::PythonMetadata),
            "PKG-INFO" if parent.ends_with(".egg-info") || parent == "EGG-INFO" => Some(Self::PythonMetadata),
            "package.json" => is_npm_package(folder).then_some(Self::NodePackage),
            "installed.json" if parent == "composer" => Some(Self::ComposerInstalled),
            "DESCRIPTION" if is_r_library(folder) => Some(Self::RDescription),
            ".bitnami_components.json" => Some(Self::BitnamiComponents),
            "release" if !folder.is_empty() => Some(Self::JavaRelease),
            "version.php" if parent == "wp-includes" => Some(Self::WordPressVersion),
            _ if file.strip_suffix(".php") == Some(parent) && folder.contains("wp-content/plugins/") => {
                Some(Self::WordPressPlugin)
            }
            _ if file.ends_with(".egg-info") => Some(Self::PythonMetadata),
            _ if file.ends_with(".deps.json") => Some(Self::DotnetDeps),
            _ if file.ends_with(".gemspec") && folder.contains("specifications") => Some(Self::Gemspec),
            _ if java::is_archive(file) => Some(Self::JavaArchive),
            _ => None,
        };
        installed.or_else(|| {
            let kind = match file {
                _ if file.starts_with("requirements") && file.ends_with(".txt") => Self::Requirements,
                "Pipfile.lock" => Self::PipfileLock,
                "poetry.lock" | "uv.lock" | "pdm.lock" | "pylock.toml" => Self::PythonLock,
                _ if file.starts_with("pylock.") && file.ends_with(".toml") => Self::PythonLock,
                "package-lock.json" | "npm-shrinkwrap.json" => Self::NpmLock,
                "yarn.lock" => Self::YarnLock,
                "pnpm-lock.yaml" => Self::PnpmLock,
                "go.mod" => Self::GoMod,
                "Cargo.lock" => Self::CargoLock,
                "Gemfile.lock" | "gems.locked" => Self::GemfileLock,
                "composer.lock" => Self::ComposerLock,
                "packages.lock.json" => Self::NugetLock,
                "packages.config" | "Directory.Packages.props" => Self::NugetReferences,
                "pom.xml" => Self::MavenPom,
                "gradle.lockfile" => Self::GradleLock,
                "bun.lock" => Self::BunLock,
                "conan.lock" => Self::ConanLock,
                "pubspec.lock" => Self::PubspecLock,
                "Package.resolved" => Self::SwiftResolved,
                "Podfile.lock" => Self::PodfileLock,
                "mix.lock" => Self::MixLock,
                _ => return None,
            };
            (!INSTALLED.iter().any(|known| path.contains(known))).then_some(kind)
        })
    }

    /// Largest file of the kind that is read whole, in bytes.
    pub fn cap(self) -> u64 {
        match self {
            Self::Dpkg | Self::Apk | Self::Rpm => 512 * 1024 * 1024,
            Self::DebianCopyright => 8 * 1024 * 1024,
            _ => 64 * 1024 * 1024,
        }
    }

    /// The licences of the package that the file is about.
    pub fn licence(self, bytes: &[u8]) -> Option<Box<str>> {
        (self == Self::DebianCopyright).then(|| dpkg::parse_copyright(bytes)).flatten()
    }

    /// The files that distributions' packages hold, as this one lists them; paths below the root.
    pub fn files(self, bytes: &[u8]) -> Box<dyn Iterator<Item = String> + '_> {
        match self {
            Self::DpkgList => Box::new(dpkg::parse_list(bytes)),
            Self::Apk => Box::new(apk::files(bytes)),
            Self::Rpm => Box::new(rpm::files(bytes, &[]).into_iter()),
            _ => Box::new(std::iter::empty()),
        }
    }

    /// Reads the file, which is in memory. `path` is its path below the root.
    pub fn parse(self, path: &str, bytes: &[u8]) -> Inventory {
        match self {
            Self::Dpkg => dpkg::parse_status(bytes),
            Self::DpkgList | Self::DebianCopyright => Inventory::default(),
            Self::Apk => apk::parse_installed(bytes),
            Self::Rpm => rpm::parse_database(bytes, &[]),
            Self::JavaArchive => java::parse_archive(path, bytes.len() as u64, &mut read_slice(bytes)),
            Self::PythonMetadata => python::parse_metadata(bytes),
            Self::Requirements => python::parse_requirements(bytes),
            Self::PipfileLock => python::parse_pipfile_lock(bytes),
            Self::PythonLock => python::parse_lock(bytes),
            Self::NodePackage => node::parse_package(bytes),
            Self::NpmLock => node::parse_npm_lock(bytes),
            Self::YarnLock => node::parse_yarn_lock(bytes),
            Self::PnpmLock => node::parse_pnpm_lock(bytes),
            Self::GoMod => go::parse_mod(bytes),
            Self::CargoLock => rust::parse_lock(bytes),
            Self::Gemspec => ruby::parse_gemspec(bytes),
            Self::GemfileLock => ruby::parse_lock(bytes),
            Self::ComposerLock | Self::ComposerInstalled => php::parse(bytes),
            Self::DotnetDeps => dotnet::parse_deps(bytes),
            Self::NugetLock => dotnet::parse_lock(bytes),
            Self::NugetReferences => dotnet::parse_references(bytes),
            Self::MavenPom => java::parse_pom(bytes),
            Self::GradleLock => java::parse_gradle_lock(bytes),
            Self::BunLock => node::parse_bun_lock(bytes),
            Self::ConanLock => conan::parse_lock(bytes),
            Self::PubspecLock => dart::parse_lock(bytes),
            Self::SwiftResolved => swift::parse_resolved(bytes),
            Self::PodfileLock => swift::parse_podfile_lock(bytes),
            Self::MixLock => elixir::parse_lock(bytes),
            Self::RDescription => r::parse_description(bytes),
            Self::BitnamiComponents => bitnami::parse_components(bytes),
            Self::JavaRelease => known_program::parse_java_release(bytes),
            Self::WordPressVersion => wordpress::parse_version(bytes),
            Self::WordPressPlugin => wordpress::parse_plugin(path, bytes),
        }
    }
}

/// The databases of distributions' packages, in the folders that have been used for them.
fn of_system(path: &str) -> Option<FileKind> {
    match path {
        "var/lib/dpkg/status" => Some(FileKind::Dpkg),
        "lib/apk/db/installed" | "usr/lib/apk/db/installed" => Some(FileKind::Apk),
        _ if path.ends_with(".md5sums") => None,
        _ if path.starts_with("var/lib/dpkg/status.d/") => Some(FileKind::Dpkg),
        _ if path.starts_with("usr/share/doc/") => copyright_of(path).map(|_| FileKind::DebianCopyright),
        _ if path.starts_with("var/lib/dpkg/info/") => path.ends_with(".list").then_some(FileKind::DpkgList),
        _ => {
            let file =
                path.strip_prefix("var/lib/rpm/").or_else(|| path.strip_prefix("usr/lib/sysimage/rpm/"));
            matches!(file, Some("Packages" | "Packages.db" | "rpmdb.sqlite")).then_some(FileKind::Rpm)
        }
    }
}

/// The package of dpkg that a file of this path tells the licences of.
pub fn copyright_of(path: &str) -> Option<&str> {
    let name = path.strip_prefix("usr/share/doc/")?.strip_suffix("/copyright")?;
    (!name.contains('/')).then_some(name)
}

/// `library/NAME` and `site-library/NAME` below a folder of R.
fn is_r_library(folder: &str) -> bool {
    let (library, _) = folder.rsplit_once('/').unwrap_or_default();
    library.ends_with("/library") || library.ends_with("/site-library")
}

/// `node_modules/name` and `node_modules/@scope/name`, at any depth, and the same in the folders that Debian has for
/// them: the folder of a package, not one inside of it.
fn is_npm_package(folder: &str) -> bool {
    let debians = ["usr/share/nodejs/", "usr/lib/nodejs/"].iter().find_map(|own| folder.strip_prefix(own));
    let inside = match folder.rsplit_once("node_modules/") {
        Some((before, inside)) if before.is_empty() || before.ends_with('/') => inside,
        Some(_) => return false,
        None => match debians {
            Some(inside) => inside,
            None => return false,
        },
    };
    match inside.split_once('/') {
        None => !inside.starts_with('@'),
        Some((scope, name)) => scope.starts_with('@') && !name.contains('/'),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn files_are_known_by_their_paths() {
        for (path, want) in [
            ("usr/lib/python3/dist-packages/x-1.dist-info/METADATA", Some(FileKind::PythonMetadata)),
            ("app/METADATA", None),
            ("usr/lib/node_modules/npm/package.json", Some(FileKind::NodePackage)),
            ("app/node_modules/@a/b/package.json", Some(FileKind::NodePackage)),
            ("app/node_modules/a/node_modules/b/package.json", Some(FileKind::NodePackage)),
            ("app/node_modules/a/test/package.json", None),
            ("app/node_modules/@a/package.json", None),
            ("usr/share/nodejs/tar/package.json", Some(FileKind::NodePackage)),
            ("usr/share/nodejs/@babel/core/package.json", Some(FileKind::NodePackage)),
            ("usr/share/nodejs/tar/lib/package.json", None),
            ("app/package.json", None),
            ("app/package-lock.json", Some(FileKind::NpmLock)),
            ("app/node_modules/a/package-lock.json", None),
            ("var/lib/gems/3.1.0/specifications/rack-2.2.gemspec", Some(FileKind::Gemspec)),
            ("var/lib/gems/3.1.0/gems/rack-2.2/rack.gemspec", None),
            ("opt/app.war", Some(FileKind::JavaArchive)),
            ("src/Cargo.lock", Some(FileKind::CargoLock)),
            ("usr/lib/R/site-library/ggplot2/DESCRIPTION", Some(FileKind::RDescription)),
            ("usr/share/doc/x/DESCRIPTION", None),
            ("usr/share/doc/libssl3/copyright", Some(FileKind::DebianCopyright)),
            ("usr/share/doc/libssl3/examples/copyright", None),
            ("src/shop/pom.xml", Some(FileKind::MavenPom)),
            ("usr/share/maven-repo/a/pom.xml", None),
            ("app/requirements-dev.txt", Some(FileKind::Requirements)),
            ("app/pylock.web.toml", Some(FileKind::PythonLock)),
            ("srv/wp-content/plugins/a/a.php", Some(FileKind::WordPressPlugin)),
            ("srv/wp-content/plugins/a/b.php", None),
            ("var/lib/dpkg/status", Some(FileKind::Dpkg)),
            ("var/lib/dpkg/status.d/tzdata", Some(FileKind::Dpkg)),
            ("var/lib/dpkg/status.d/tzdata.md5sums", None),
            ("usr/lib/sysimage/rpm/rpmdb.sqlite", Some(FileKind::Rpm)),
            ("copy/var/lib/rpm/Packages", None),
        ] {
            assert_eq!(FileKind::of(path), want, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_of_any_kind_give_packages_or_faults(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            text in "[ -~\n]{0,300}",
        ) {
            for path in [
                "a.egg-info", "requirements.txt", "Pipfile.lock", "uv.lock", "node_modules/a/package.json",
                "package-lock.json", "yarn.lock", "pnpm-lock.yaml", "a.jar", "go.mod", "Cargo.lock",
                "specifications/a.gemspec", "Gemfile.lock", "composer.lock", "a.deps.json", "packages.lock.json",
                "packages.config", "gradle.lockfile", "pom.xml", "usr/share/doc/a/copyright", "bun.lock", "conan.lock", "pubspec.lock", "Package.resolved",
                "Podfile.lock", "mix.lock", "R/library/a/DESCRIPTION", ".bitnami_components.json",
                "wp-includes/version.php", "opt/jdk/release", "wp-content/plugins/a/a.php", "var/lib/dpkg/status",
                "lib/apk/db/installed", "var/lib/rpm/Packages",
            ] {
                let kind = FileKind::of(path).unwrap();
                kind.parse(path, &bytes);
                kind.parse(path, text.as_bytes());
                kind.licence(&bytes);
                kind.licence(text.as_bytes());
            }
        }
    }
}
