//! Turns `ui/dist` into a table of embedded files, or a page that says how to build it.
//!
//! The table is written to `$OUT_DIR/assets.rs`; every entry carries its content type, an ETag over its bytes and the
//! pre-compressed twins that the console's build left beside it. Names in the table are sorted: same input, same bytes.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use sha2::{Digest, Sha256};

const MISSING: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><base href=\"/\"><title>Console</title></head>\
<body><h1>The console was not built</h1><p>This program was compiled without its web pages. Build them with \
<code>make build</code>, or <code>npm ci &amp;&amp; npm run build</code> in <code>ui/</code>, and compile again. \
The REST API works without them.</p></body></html>\n";

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../../ui");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let dist = root.join("dist");
    let mut files = BTreeMap::new();
    if dist.join("index.html").is_file() {
        println!("cargo:rerun-if-changed={}", dist.display());
        collect(&dist, &dist, &mut files)?;
    } else {
        // A watched path that does not exist would run this script on every build.
        let watched = if root.is_dir() { root } else { PathBuf::from("build.rs") };
        println!("cargo:rerun-if-changed={}", watched.display());
        let page = out.join("missing.html");
        fs::write(&page, MISSING)?;
        files.insert("index.html".to_owned(), page);
    }
    fs::write(out.join("assets.rs"), table(&files)?)?;
    Ok(())
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if let Some(name) = path.strip_prefix(root)?.to_str() {
            files.insert(name.replace('\\', "/"), path.canonicalize()?);
        }
    }
    Ok(())
}

fn table(files: &BTreeMap<String, PathBuf>) -> Result<String, Box<dyn Error>> {
    let mut text = String::from("pub(crate) static ASSETS: &[Asset] = &[\n");
    for (name, path) in files {
        if name.ends_with(".br") || name.ends_with(".gz") || name.starts_with('.') {
            continue;
        }
        let digest = Sha256::digest(fs::read(path)?);
        let tag = digest.iter().take(12).fold(String::new(), |mut tag, byte| {
            let _written = write!(tag, "{byte:02x}");
            tag
        });
        let twin = |ending: &str| match files.get(&format!("{name}{ending}")) {
            Some(twin) => format!("Some(include_bytes!({:?}))", twin.display().to_string()),
            None => "None".to_owned(),
        };
        writeln!(
            text,
            "    Asset {{ name: {name:?}, kind: {:?}, tag: \"\\\"{tag}\\\"\", plain: include_bytes!({:?}), brotli: {}, gzip: {} }},",
            content_type(name),
            path.display().to_string(),
            twin(".br"),
            twin(".gz"),
        )?;
    }
    text.push_str("];\n");
    Ok(text)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
