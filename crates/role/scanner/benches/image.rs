//! What the first scan of an image costs: an image of 250 MB and one of 1 GB are made here, read with secrets looked for, and
//! matched.
//!
//! Each is an OCI layout of eight layers, gzip and zstd in turn, of texts, programs, manifests of npm and Python and jars.
//! Their bytes are as compressible as those of real images, to a third. Of each the clock, CPU time and the highest resident
//! memory are told; the second size shows that memory does not grow with the image. `NV_IMAGE_MB` names other sizes, by commas.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]
#![expect(clippy::cast_precision_loss, reason = "figures are rounded for people")]

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use nv_role_scanner::{
    BuildOptions, ImageChoice, ImageReading, OpenedDatabase, Remarks, SecretRules, build_database,
    open_image, read_image,
};
use nv_telemetry::ProcessUse;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const MIB: f64 = 1024.0 * 1024.0;
/// Layers of an image.
const LAYERS: u64 = 8;
/// Bytes of a pool that contents are cut from: more than the windows of both compressors, so that no file is a copy of another.
const POOL: usize = 16 * 1024 * 1024;
/// Seconds in which the largest image is to be scanned, and memory that any of them may take.
const MOST_SECONDS: f64 = 10.0;
const MOST_MIB: f64 = 160.0;
/// How much more memory an image may take that is four times as large, in MiB.
const MOST_GROWTH: f64 = 32.0;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let database = database(folder.path());
    let opened = OpenedDatabase::open(&database).unwrap();
    let sizes = std::env::var("NV_IMAGE_MB").unwrap_or_else(|_unset| "250,1024".to_owned());
    let pool = Pool::new();
    let mut first = None;
    for size in sizes.split(',').filter_map(|size| size.trim().parse::<u64>().ok()) {
        let path = folder.path().join(format!("image-{size}"));
        let made = made_image(&path, size * 1024 * 1024, &pool);
        println!("image of {size} MiB: {} files, {:.0} MiB packed", made.files, made.packed as f64 / MIB);
        // From here on the highest resident memory is the scan's.
        fs::write("/proc/self/clear_refs", "5").unwrap();
        let begin = ProcessUse::of(None).unwrap();
        let start = Instant::now();
        let (packages, findings, secrets) = scanned(&path, &opened);
        let wall = start.elapsed().as_secs_f64();
        let cpu = ProcessUse::of(None).unwrap().cpu.saturating_sub(begin.cpu).as_secs_f64();
        // The pool of contents is the benchmark's own; it stays, for an allocator may keep what is freed.
        let memory = (peak() - 2.0 * POOL as f64) / MIB;
        println!("  {packages} packages, {findings} findings, {secrets} secrets");
        println!("{:<48} {wall:>12.3}", "  by the clock, s");
        row("  CPU s", cpu, MOST_SECONDS);
        row("  CPU s a GiB", cpu * 1024.0 / size as f64, MOST_SECONDS);
        row("  highest resident MiB", memory, MOST_MIB);
        match first {
            None => first = Some(memory),
            Some(first) => row("  more than the first, MiB", memory - first, MOST_GROWTH),
        }
        fs::remove_dir_all(&path).unwrap();
    }
}

/// A line: a figure and the most that was promised.
fn row(what: &str, figure: f64, most: f64) {
    let holds = if figure <= most { "holds" } else { "BROKEN" };
    println!("{what:<48} {figure:>12.3}   at most {most:>8}   {holds}");
}

/// The highest resident memory since it was last cleared, in bytes: `VmHWM` of `/proc/self/status`.
fn peak() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() * 1024.0
}

fn scanned(path: &Path, opened: &OpenedDatabase) -> (usize, usize, usize) {
    let mut said = Vec::new();
    let mut remarks = Remarks::new(&mut said);
    let (store, image) = open_image(path, &ImageChoice::default(), &mut remarks).unwrap();
    let rules = SecretRules::built_in().unwrap();
    let how = ImageReading { cache: None, rules: Some(&rules), process: None };
    let mut report = read_image(&store, &image, &how, &mut remarks);
    report.judge(opened.database().unwrap(), &mut remarks);
    let found = (report.packages.len(), report.findings.len(), report.secrets.len());
    drop(report);
    assert!(said.is_empty(), "{}", String::from_utf8_lossy(&said));
    found
}

fn database(folder: &Path) -> PathBuf {
    let feeds = folder.join("feeds/debian-dsa/data/DSA");
    fs::create_dir_all(&feeds).unwrap();
    let list = "[29 Mar 2023] DSA-1-1 openssl - update\n\t{CVE-2023-1}\n\t[bookworm] - openssl 3.0.9-1\n";
    fs::write(feeds.join("list"), list).unwrap();
    let out = folder.join("cvedb");
    let options =
        BuildOptions { feeds: Some(folder.join("feeds")), out: out.clone(), ..BuildOptions::default() };
    build_database(&options, None, &mut Vec::new(), &mut Remarks::new(&mut Vec::new())).unwrap();
    out
}

/// Numbers that look like any, the same in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }
}

/// Bytes like those of texts, and like those of programs.
struct Pool {
    text: Vec<u8>,
    program: Vec<u8>,
}

impl Pool {
    fn new() -> Self {
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        let words: Vec<Vec<u8>> = (0..4096)
            .map(|_| (0..2 + numbers.below(9)).map(|_| b'a' + (numbers.next() % 26) as u8).collect())
            .collect();
        let mut text = Vec::with_capacity(POOL + 64);
        while text.len() < POOL {
            // Few words are most of a text.
            let rank = numbers.below(64) * numbers.below(64);
            text.extend_from_slice(words.get(rank).unwrap());
            text.push(if numbers.next().is_multiple_of(12) { b'\n' } else { b' ' });
        }
        let mut program = Vec::with_capacity(POOL + 64);
        while program.len() < POOL {
            // Instructions: few first bytes, then what may be any, and runs of zeros between.
            match numbers.next() % 5 {
                0 => program.extend([0; 12]),
                1 | 2 => program.extend([0x48, 0x8b, (numbers.next() % 32) as u8, 0x24]),
                3 => program.extend([0xe8, (numbers.next() % 256) as u8, (numbers.next() % 64) as u8, 0, 0]),
                _ => program.extend(numbers.next().to_le_bytes()),
            }
        }
        text.truncate(POOL);
        program.truncate(POOL);
        Self { text, program }
    }
}

struct Made {
    files: u64,
    packed: u64,
}

/// Hashes and counts what is written through.
struct Counted<W> {
    out: W,
    hash: Sha256,
    bytes: u64,
}

impl<W> Counted<W> {
    fn new(out: W) -> Self {
        Self { out, hash: Sha256::new(), bytes: 0 }
    }

    fn digest(self) -> (String, u64) {
        (self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), self.bytes)
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.out.write_all(bytes)?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// The compressor of a layer.
enum Packer<W: Write> {
    Gzip(flate2::write::GzEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Write for Packer<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Gzip(out) => out.write(bytes),
            Self::Zstd(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Gzip(out) => out.flush(),
            Self::Zstd(out) => out.flush(),
        }
    }
}

/// Writes an OCI layout with one image of so many bytes unpacked.
fn made_image(root: &Path, bytes: u64, pool: &Pool) -> Made {
    let blobs = root.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let mut numbers = Numbers(bytes | 1);
    let (mut layers, mut marks) = (Vec::new(), Vec::new());
    let mut made = Made { files: 0, packed: 0 };
    for place in 0..LAYERS {
        let beside = blobs.join("layer");
        let file = Counted::new(BufWriter::new(File::create(&beside).unwrap()));
        let zipped = place % 2 == 0;
        let packer = if zipped {
            Packer::Gzip(flate2::write::GzEncoder::new(file, flate2::Compression::new(4)))
        } else {
            Packer::Zstd(zstd::Encoder::new(file, 3).unwrap())
        };
        let mut tar = tar::Builder::new(Counted::new(packer));
        made.files += fill(&mut tar, place, bytes / LAYERS, pool, &mut numbers);
        let Counted { out, hash, .. } = tar.into_inner().unwrap();
        let (mark, _) = Counted { out: (), hash, bytes: 0 }.digest();
        let mut file = match out {
            Packer::Gzip(out) => out.finish().unwrap(),
            Packer::Zstd(out) => out.finish().unwrap(),
        };
        file.flush().unwrap();
        let (digest, size) = file.digest();
        fs::rename(&beside, blobs.join(&digest)).unwrap();
        made.packed += size;
        let kind = if zipped { "gzip" } else { "zstd" };
        layers.push(json!({
            "mediaType": format!("application/vnd.oci.image.layer.v1.tar+{kind}"),
            "digest": format!("sha256:{digest}"),
            "size": size,
        }));
        marks.push(format!("sha256:{mark}"));
    }
    let blob = |bytes: &[u8]| -> Value {
        let mut out = Counted::new(Vec::new());
        out.write_all(bytes).unwrap();
        let (digest, size) = out.digest();
        fs::write(blobs.join(&digest), bytes).unwrap();
        json!({ "digest": format!("sha256:{digest}"), "size": size })
    };
    let config =
        json!({ "os": "linux", "architecture": "amd64", "rootfs": { "diff_ids": marks }, "config": {} });
    let config = blob(config.to_string().as_bytes());
    let manifest = blob(json!({ "config": config, "layers": layers }).to_string().as_bytes());
    fs::write(root.join("index.json"), json!({ "manifests": [manifest] }).to_string()).unwrap();
    made
}

/// Fills a layer with files; gives how many.
fn fill<W: Write>(
    tar: &mut tar::Builder<W>,
    layer: u64,
    bytes: u64,
    pool: &Pool,
    numbers: &mut Numbers,
) -> u64 {
    let mut files = 0;
    let mut put = |path: &str, mode: u32, content: &[u8]| {
        let mut head = tar::Header::new_gnu();
        head.set_size(content.len() as u64);
        head.set_mode(mode);
        tar.append_data(&mut head, path, content).unwrap();
        files += 1;
        content.len() as u64 + 512
    };
    let mut written = 0;
    if layer == 0 {
        written += put("etc/os-release", 0o644, b"ID=debian\nVERSION_ID=\"12\"\n");
        let mut status = String::from("Package: openssl\nStatus: install ok installed\nVersion: 3.0.8-1\n\n");
        for number in 0..800 {
            status.push_str(&format!(
                "Package: package-{number}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.{number}-1\n\n"
            ));
        }
        written += put("var/lib/dpkg/status", 0o644, status.as_bytes());
    }
    let mut number = 0_u64;
    while written < bytes {
        number += 1;
        let folder = format!("srv/layer-{layer}/{}", number / 100);
        let cut = |pool: &[u8], numbers: &mut Numbers, most: usize| -> Vec<u8> {
            let length = 1024 + numbers.below(most);
            let at = numbers.below(pool.len() - length);
            pool.get(at..at + length).unwrap().to_vec()
        };
        written += match number % 20 {
            0 => put(
                &format!("{folder}/node_modules/module-{number}/package.json"),
                0o644,
                format!("{{\"name\":\"module-{number}\",\"version\":\"1.2.{number}\"}}").as_bytes(),
            ),
            1 => put(
                &format!("{folder}/site-packages/m{number}-1.dist-info/METADATA"),
                0o644,
                format!("Metadata-Version: 2.1\nName: m{number}\nVersion: 1.{number}\n\n").as_bytes(),
            ),
            2 | 3 => put(&format!("{folder}/settings-{number}.conf"), 0o644, &cut(&pool.text, numbers, 4096)),
            4..=6 => {
                let mut program = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
                program.extend(cut(&pool.program, numbers, 600_000));
                put(&format!("usr/lib/layer-{layer}/program-{number}"), 0o755, &program)
            }
            7..=12 => {
                put(&format!("{folder}/library-{number}.so"), 0o644, &cut(&pool.program, numbers, 90_000))
            }
            _ => put(&format!("{folder}/text-{number}.md"), 0o644, &cut(&pool.text, numbers, 60_000)),
        };
    }
    files
}
