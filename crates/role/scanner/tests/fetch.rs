//! Feeds from a mirror that the test starts, to a database.

#![expect(clippy::unwrap_used, reason = "what a test cannot go on without fails it")]
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::thread;

use nv_role_scanner::*;

/// Serves files by their paths; everything else is not found.
fn mirror(files: HashMap<&'static str, Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines: Vec<String> = BufReader::new(stream.try_clone().unwrap())
                .lines()
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .collect();
            let path = lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
            let known = lines.iter().any(|line| line.eq_ignore_ascii_case("if-none-match: \"1\""));
            let answer = match files.get(path.as_str()) {
                Some(_) if known => b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n".to_vec(),
                Some(body) => {
                    let length = body.len();
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                    );
                    [head.as_bytes(), body].concat()
                }
                None => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
            };
            stream.write_all(&answer).unwrap();
        }
    });
    format!("http://{address}/mirror")
}

/// A zip archive of one file, stored as it is.
fn zip(name: &str, content: &[u8]) -> Vec<u8> {
    let le = |number: usize, bytes: usize| number.to_le_bytes().into_iter().take(bytes).collect::<Vec<u8>>();
    let sizes = [le(0, 4), le(content.len(), 4), le(content.len(), 4), le(name.len(), 2), le(0, 2)].concat();
    let local =
        [b"PK\x03\x04".to_vec(), vec![20, 0], vec![0; 8], sizes.clone(), name.into(), content.to_vec()]
            .concat();
    let entry =
        [b"PK\x01\x02".to_vec(), vec![20, 0, 20, 0], vec![0; 8], sizes, vec![0; 14], name.into()].concat();
    let end = [
        b"PK\x05\x06".to_vec(),
        vec![0; 4],
        le(1, 2),
        le(1, 2),
        le(entry.len(), 4),
        le(local.len(), 4),
        le(0, 2),
    ]
    .concat();
    [local, entry, end].concat()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap()
}

/// The bytes of digits; blanks between them are left out.
fn unhex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
    let of = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(of).collect()
}

#[test]
fn a_repositorys_advisories_are_found_by_its_description_and_come_only_as_it_says() {
    use sha2::Digest as _;
    let updates = gzip(
        r#"<updates><update type="security"><id>ALAS2023-2023-001</id><issued date="2023-02-17 00:33"/><severity>important</severity>
        <references><reference href="x" id="CVE-2022-4203" type="cve"/></references><pkglist><collection>
        <package name="openssl" epoch="1" version="3.0.8" release="1.amzn2023.0.1" arch="x86_64"><filename>x</filename></package>
        </collection></pkglist></update></updates>"#,
    );
    let sum: String = sha2::Sha256::digest(&updates).iter().map(|byte| format!("{byte:02x}")).collect();
    let described = |sum: &str| {
        format!(
            r#"<repomd><data type="updateinfo"><checksum type="sha256">{sum}</checksum><location href="repodata/updateinfo.xml.gz"/></data></repomd>"#
        )
    };
    let files = |sum: &str| {
        HashMap::from([
            (
                "/mirror/cdn.amazonlinux.com/al2023/core/mirrors/latest/x86_64/mirror.list",
                b"https://cdn.amazonlinux.com/al2023/core/guids/1a2b/x86_64/\n".to_vec(),
            ),
            (
                "/mirror/cdn.amazonlinux.com/al2023/core/guids/1a2b/x86_64/repodata/repomd.xml",
                described(sum).into_bytes(),
            ),
            (
                "/mirror/cdn.amazonlinux.com/al2023/core/guids/1a2b/x86_64/repodata/updateinfo.xml.gz",
                updates.clone(),
            ),
        ])
    };
    let folder = tempfile::tempdir().unwrap();
    let options = |name: &str, sum: &str| FetchOptions {
        into: folder.path().join(name),
        feeds: vec!["amazon-2023".to_owned()],
        mirror: Some(mirror(files(sum))),
        proxy: None,
    };
    let fetched = options("feeds", &sum);
    fetch_feeds(&fetched, &mut Vec::new(), &mut Remarks::new(&mut Vec::new())).unwrap();
    let build = BuildOptions {
        feeds: Some(fetched.into),
        out: folder.path().join("cvedb"),
        ..BuildOptions::default()
    };
    build_database(&build, None, &mut Vec::new(), &mut Remarks::new(&mut Vec::new())).unwrap();
    let mut shown = Vec::new();
    lookup(&build.out, "CVE-2022-4203", &mut shown).unwrap();
    let known: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    assert_eq!(known["affected"][0]["namespace"], "amzn:2023");
    assert_eq!(known["affected"][0]["fixed_version"], "1:3.0.8-1.amzn2023.0.1");

    let other = options("other", &"0".repeat(64));
    let refused = fetch_feeds(&other, &mut Vec::new(), &mut Remarks::new(&mut Vec::new()));
    assert!(matches!(refused, Err(ScannerError::Download(_))), "{refused:?}");
    assert!(!other.into.join("amazon-2023/updateinfo.xml.gz").exists());
}

/// A definition of Oracle's as `bzip2` compresses it: openssl before 1:3.0.7-25.el9 has CVE-2024-1 on Oracle Linux 9.
const COMPRESSED: &str = "425a6839314159265359278d710100004d1f805003feb72e058900bf77df6030018db61643441a26a7a984f483432343 \
    20c8d04a9e8a68d4fd253d1323d0d2190309934092498809b536926ca791a80007a4c7f5ea2bf24cda6bf525e7ddce06 \
    16ef37426dd0493f2e54744835e84456098e3b6a6a684898baa4b434e89a2daecea587a63622a4c5455d079586d4ea52 \
    752246ec96bc565cd9f271d2f1de7b5dfd4a668b9ac6ba8d68d7192821930c356306978c44f6cad4c301b457d86c139a \
    80f8142b312bb414647b95dbde6f11cc16170aa7513cd8bb8316813922246116fb1cf2faff586ddd40e755b8bb42f160 \
    2f31d8959271ced154c281c6530588b8c4b49e016582b454674d230a832383c2d140ec2f1bc6e648817e55c148c2e98b \
    320c9987beee409e0e1cc356622e516c5cfa0388075a829a89ef4881482ae76317a30594011830850054b89999c1a0c3 \
    c054c4d093219c9959c4cb1c1afaab6af3297a552833a44131a52625008820886273522cb187b6892be11b4a98543f8b \
    b9229c284813c6b88080";

#[test]
fn compressed_files_of_a_feed_are_read_wherever_they_lie_and_damaged_ones_are_told() {
    let packed = unhex(COMPRESSED);
    let folder = tempfile::tempdir().unwrap();
    let feed = folder.path().join("feeds/oracle-oval");
    fs::create_dir_all(&feed).unwrap();
    fs::write(feed.join("com.oracle.elsa-ol9.xml.bz2"), &packed).unwrap();
    fs::write(feed.join("com.oracle.elsa-ol8.xml.bz2"), &packed[..packed.len() - 20]).unwrap();
    // The same inside of an archive, named after a year.
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(packed.len() as u64);
    tar.append_data(&mut header, "x/com.oracle.elsa-2024.xml.bz2", &packed[..]).unwrap();
    fs::write(feed.join("years.tar.zst"), zstd::encode_all(&tar.into_inner().unwrap()[..], 0).unwrap())
        .unwrap();
    let build = BuildOptions {
        feeds: Some(folder.path().join("feeds")),
        out: folder.path().join("cvedb"),
        ..BuildOptions::default()
    };
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    build_database(&build, None, &mut out, &mut Remarks::new(&mut errors)).unwrap();
    let counts = String::from_utf8(out).unwrap();
    assert!(counts.contains("2 files") && counts.contains("2 rows"), "{counts}");
    let errors = String::from_utf8(errors).unwrap();
    assert!(errors.contains("com.oracle.elsa-ol8.xml.bz2") && errors.contains("cut bzip2 file"), "{errors}");
    let mut shown = Vec::new();
    lookup(&build.out, "CVE-2024-1", &mut shown).unwrap();
    let known: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    assert_eq!(known["affected"][0]["namespace"], "ol:9");
}

#[test]
fn feeds_come_from_a_mirror_and_are_built_into_a_database() {
    let advisory = r#"{"id":"GO-1","aliases":["CVE-2024-1"],"modified":"2024-05-01T00:00:00Z","affected":[{"package":
        {"ecosystem":"Go","name":"example.org/m"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"1.5.0"}]}]}]}"#;
    let files = HashMap::from([
        (
            "/mirror/www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities.json",
            br#"{"vulnerabilities":[{"cveID":"CVE-2024-1"}]}"#.to_vec(),
        ),
        ("/mirror/epss.empiricalsecurity.com/epss_scores-current.csv.gz", gzip("cve,epss\nCVE-2024-1,0.5\n")),
        (
            "/mirror/osv-vulnerabilities.storage.googleapis.com/Go/all.zip",
            zip("GO-1.json", advisory.as_bytes()),
        ),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let mut options = FetchOptions {
        into: folder.path().join("feeds"),
        feeds: ["kev", "epss", "osv-go", "debian-tracker"].map(str::to_owned).to_vec(),
        mirror: Some(mirror(files)),
        proxy: None,
    };
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    fetch_feeds(&options, &mut out, &mut Remarks::new(&mut errors)).unwrap();
    assert_eq!(String::from_utf8(out).unwrap().matches(" bytes").count(), 3);
    let errors = String::from_utf8(errors).unwrap();
    assert!(errors.contains("debian-tracker") && errors.contains("404"), "{errors}");

    let mut again = Vec::new();
    fetch_feeds(&options, &mut again, &mut Remarks::new(&mut Vec::new())).unwrap();
    assert_eq!(String::from_utf8(again).unwrap().matches("unchanged").count(), 3);

    let build = BuildOptions {
        feeds: Some(options.into.clone()),
        out: folder.path().join("cvedb"),
        ..BuildOptions::default()
    };
    build_database(&build, None, &mut Vec::new(), &mut Remarks::new(&mut Vec::new())).unwrap();
    let mut shown = Vec::new();
    lookup(&build.out, "CVE-2024-1", &mut shown).unwrap();
    let known: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    assert_eq!((&known["exploited"], &known["epss"]), (&true.into(), &0.5.into()));
    assert_eq!(known["affected"][0]["package"], "example.org/m");

    options.feeds = vec!["nobody".to_owned()];
    let refused = fetch_feeds(&options, &mut Vec::new(), &mut Remarks::new(&mut Vec::new()));
    assert!(matches!(refused, Err(ScannerError::Argument(_))));
    fs::remove_dir_all(&options.into).unwrap();
    options.feeds = vec!["debian-tracker".to_owned()];
    let nothing = fetch_feeds(&options, &mut Vec::new(), &mut Remarks::new(&mut Vec::new()));
    assert!(matches!(nothing, Err(ScannerError::Download(_))), "{nothing:?}");
}
