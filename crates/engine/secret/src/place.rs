//! Which files are searched.

/// Sizes of files that are searched, in bytes: a secret is in a small file, and a large one is data.
const SIZES: std::ops::RangeInclusive<u64> = 16..=64 * 1024;

/// Folders of what packages install, which is public, and of what is no text.
const PASSED_OVER: [&str; 12] = [
    "usr/share/",
    "usr/lib/",
    "usr/lib64/",
    "usr/libexec/",
    "usr/include/",
    "usr/src/",
    "usr/local/go/",
    "lib/apk/",
    "lib/modules/",
    "var/lib/dpkg/",
    "var/lib/apt/",
    "var/cache/",
];
const ANYWHERE: [&str; 7] = [
    "node_modules/",
    "site-packages/",
    "dist-packages/",
    "/gems/",
    "/.git/objects/",
    "/testdata/",
    "/locale/",
];
const KINDS: [&str; 22] = [
    ".png", ".jpg", ".jpeg", ".gif", ".ico", ".svg", ".woff", ".woff2", ".ttf", ".so", ".o", ".a", ".pyc",
    ".class", ".jar", ".gz", ".xz", ".zip", ".mo", ".md", ".html", ".css",
];

/// Whether a file at a path below the root is searched for secrets.
pub fn is_searched(path: &str, size: u64) -> bool {
    SIZES.contains(&size)
        && !PASSED_OVER.iter().any(|folder| path.starts_with(folder))
        && !ANYWHERE.iter().any(|folder| path.contains(folder))
        && !KINDS.iter().any(|kind| path.ends_with(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_outside_of_what_packages_install_are_searched() {
        for (path, size, want) in [
            ("root/.aws/credentials", 100, true),
            ("app/.env", 64 * 1024, true),
            ("app/.env", 64 * 1024 + 1, false),
            ("usr/share/doc/x/key", 100, false),
            ("app/node_modules/x/key.pem", 100, false),
            ("app/logo.png", 100, false),
        ] {
            assert_eq!(is_searched(path, size), want, "{path}");
        }
    }
}
