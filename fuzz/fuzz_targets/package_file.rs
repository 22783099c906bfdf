//! Any bytes are read as each kind of file that says what is installed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nv_package::FileKind;

/// A path of each kind.
const PATHS: [&str; 36] = [
    "usr/lib/python3/dist-packages/x-1.dist-info/METADATA",
    "app/requirements.txt",
    "app/Pipfile.lock",
    "app/poetry.lock",
    "app/pylock.toml",
    "app/node_modules/x/package.json",
    "app/package-lock.json",
    "app/yarn.lock",
    "app/pnpm-lock.yaml",
    "var/lib/dpkg/status",
    "var/lib/dpkg/info/x.list",
    "lib/apk/db/installed",
    "var/lib/rpm/Packages",
    "app/x.jar",
    "app/go.mod",
    "app/Cargo.lock",
    "usr/share/gems/specifications/x.gemspec",
    "app/Gemfile.lock",
    "app/composer.lock",
    "app/x/composer/installed.json",
    "app/x.deps.json",
    "app/packages.lock.json",
    "app/packages.config",
    "app/Directory.Packages.props",
    "app/gradle.lockfile",
    "app/bun.lock",
    "app/conan.lock",
    "app/pubspec.lock",
    "app/Package.resolved",
    "app/Podfile.lock",
    "app/mix.lock",
    "usr/lib/R/library/x/DESCRIPTION",
    "opt/bitnami/.bitnami_components.json",
    "opt/java/release",
    "var/www/wp-includes/version.php",
    "var/www/wp-content/plugins/x/x.php",
];

// The kind's number, then the file.
fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let path = PATHS[usize::from(*kind) % PATHS.len()];
    let kind = FileKind::of(path).expect("the path is one of a kind");
    for file in kind.files(bytes).take(1000) {
        assert!(!file.starts_with('/'), "{file:?} is below the root");
    }
    let inventory = kind.parse(path, bytes);
    for package in &inventory.packages {
        std::hint::black_box(package.ecosystem.scheme().key(package.version.as_bytes()));
    }
});
