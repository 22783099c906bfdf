//! Against a server that the test starts: one that breaks off, refuses, changes what it has, and lies.

#![expect(clippy::unwrap_used, reason = "what a test cannot go on without fails it")]
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use nv_download::{DownloadError, Downloader, Fetched, Options, Wanted};
use sha2::{Digest as _, Sha256};

/// What is asked, and what is to be answered.
type Answer = Box<dyn FnMut(&Request, &mut TcpStream) + Send>;

#[derive(Clone, Debug, Default)]
struct Request {
    target: String,
    range: Option<u64>,
    condition: Option<String>,
}

/// Answers each request; gives its address and what was asked.
fn serve(mut answer: Answer) -> (String, Arc<Mutex<Vec<Request>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Request::default();
            for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                let line = line.unwrap();
                let lower = line.to_ascii_lowercase();
                if line.is_empty() {
                    break;
                } else if request.target.is_empty() {
                    request.target = line.split(' ').nth(1).unwrap().to_owned();
                } else if let Some(range) = lower.strip_prefix("range: bytes=") {
                    request.range = range.trim_end_matches('-').parse().ok();
                } else if let Some((name, value)) = line.split_once(": ")
                    && ["if-range", "if-none-match", "if-modified-since"]
                        .contains(&&*name.to_ascii_lowercase())
                {
                    request.condition = Some(value.to_owned());
                }
            }
            seen.lock().unwrap().push(request.clone());
            answer(&request, &mut stream);
        }
    });
    (format!("http://{address}/file"), asked)
}

/// Sends a head and a body; a client that has gone is no fault.
fn send(stream: &mut TcpStream, head: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n");
    let _sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

fn content() -> Vec<u8> {
    (0..100_000_u32).flat_map(u32::to_le_bytes).collect()
}

async fn fetch(
    url: &str,
    path: &std::path::Path,
    sha256: Option<[u8; 32]>,
) -> Result<Fetched, DownloadError> {
    let wanted = Wanted { url, path, most: 1_000_000, sha256 };
    Downloader::new(&Options::default()).unwrap().fetch(&wanted).await
}

#[tokio::test]
async fn what_breaks_off_goes_on_from_there_and_is_checked_as_a_whole() {
    let all = content();
    let sent = all.clone();
    let (url, asked) = serve(Box::new(move |request, stream| {
        let from = usize::try_from(request.range.unwrap_or(0)).unwrap();
        let end = (from + 150_000).min(sent.len());
        let length = sent.len() - from;
        let head = if from == 0 {
            format!("200 OK\r\nETag: \"1\"\r\nContent-Length: {length}")
        } else {
            let total = sent.len();
            format!(
                "206 Partial Content\r\nETag: \"1\"\r\nContent-Range: bytes {from}-{}/{total}\r\nContent-Length: {length}",
                total - 1
            )
        };
        send(stream, &head, &sent[from..end]);
    }));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let sum: [u8; 32] = Sha256::digest(&all).into();
    assert_eq!(fetch(&url, &path, Some(sum)).await.unwrap(), Fetched::Whole { bytes: 400_000 });
    assert!(fs::read(&path).unwrap() == all);
    let asked = asked.lock().unwrap();
    assert_eq!(asked.iter().map(|request| request.range).collect::<Vec<_>>()[0], None);
    assert!(asked.len() >= 3 && asked[1].range.is_some() && asked[1].condition.as_deref() == Some("\"1\""));
}

#[tokio::test]
async fn another_run_goes_on_and_what_has_changed_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let all = content();
    let sent = all.clone();
    let (url, asked) = serve(Box::new(move |request, stream| {
        // The version of the part is not this one any more: the whole is sent.
        assert!(request.range.is_none() || request.condition.as_deref() == Some("\"old\""));
        send(stream, &format!("200 OK\r\nETag: \"new\"\r\nContent-Length: {}", sent.len()), &sent);
    }));
    fs::write(folder.path().join("file.part"), b"old bytes").unwrap();
    fs::write(folder.path().join("file.tag"), "\"old\"").unwrap();
    fetch(&url, &path, None).await.unwrap();
    assert!(fs::read(&path).unwrap() == all);
    assert_eq!(asked.lock().unwrap()[0].range, Some(9));
    assert!(!folder.path().join("file.part").exists());
}

#[tokio::test]
async fn a_file_that_is_still_the_senders_is_not_sent_again() {
    let (url, asked) = serve(Box::new(|request, stream| match request.condition.as_deref() {
        Some("\"7\"") => send(stream, "304 Not Modified", b""),
        _ => send(stream, "200 OK\r\nETag: \"7\"\r\nContent-Length: 3", b"abc"),
    }));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    assert_eq!(fetch(&url, &path, None).await.unwrap(), Fetched::Whole { bytes: 3 });
    assert_eq!(fetch(&url, &path, None).await.unwrap(), Fetched::Unchanged);
    assert_eq!(asked.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_busy_sender_is_asked_again_and_one_that_refuses_is_not() {
    let mut tries = 0;
    let (url, _) = serve(Box::new(move |_, stream| {
        tries += 1;
        match tries {
            1 => send(stream, "503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0", b""),
            2 => send(stream, "429 Too Many Requests\r\nRetry-After: 0\r\nContent-Length: 0", b""),
            _ => send(stream, "200 OK\r\nContent-Length: 2", b"ok"),
        }
    }));
    let folder = tempfile::tempdir().unwrap();
    fetch(&url, &folder.path().join("a"), None).await.unwrap();
    for (head, status) in [("404 Not Found", Some(404)), ("429 Too Many Requests\r\nRetry-After: 9999", None)]
    {
        let (url, asked) =
            serve(Box::new(move |_, stream| send(stream, &format!("{head}\r\nContent-Length: 0"), b"")));
        match fetch(&url, &folder.path().join("b"), None).await {
            Err(DownloadError::Status { status: found, .. }) => assert_eq!(Some(found), status),
            Err(DownloadError::Busy { seconds, .. }) => assert_eq!((seconds, status), (9999, None)),
            other => panic!("{other:?}"),
        }
        assert_eq!(asked.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn other_bytes_than_those_that_are_wanted_are_not_put_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "what was there").unwrap();
    let (url, _) = serve(Box::new(|_, stream| send(stream, "200 OK\r\nContent-Length: 3", b"abc")));
    assert!(matches!(fetch(&url, &path, Some([0; 32])).await, Err(DownloadError::Digest { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "what was there");
    assert!(!folder.path().join("file.part").exists());
    // It says nothing of its size and does not end.
    let (url, _) = serve(Box::new(|_, stream| send(stream, "200 OK", &vec![0; 2_000_000])));
    assert!(matches!(fetch(&url, &path, None).await, Err(DownloadError::Size { most: 1_000_000, .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "what was there");
}

#[tokio::test]
async fn a_proxy_is_asked_for_the_whole_address() {
    let (proxy, asked) = serve(Box::new(|_, stream| send(stream, "200 OK\r\nContent-Length: 2", b"ok")));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let options = Options { proxy: Some(proxy.trim_end_matches("/file").to_owned()) };
    let wanted = Wanted { url: "http://feeds.invalid/kev.json", path: &path, most: 10, sha256: None };
    Downloader::new(&options).unwrap().fetch(&wanted).await.unwrap();
    assert_eq!(asked.lock().unwrap()[0].target, "http://feeds.invalid/kev.json");
}
