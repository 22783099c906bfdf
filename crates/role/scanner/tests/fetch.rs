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
