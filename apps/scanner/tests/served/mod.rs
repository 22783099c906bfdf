//! A registry of one image for tests, over HTTP/1.1, in the clear or over TLS: what it answers is up to the test.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub(crate) fn digits(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An answer to a request.
#[derive(Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// In the place of the body's own length.
    pub(crate) length: Option<u64>,
    /// So many zeros follow the body.
    pub(crate) zeros: u64,
    /// Bytes between which a moment passes.
    pub(crate) slowly: Option<usize>,
}

impl Answer {
    pub(crate) fn of(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, body: body.into(), ..Self::default() }
    }
    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// What a request is: its path with the query, and its Authorization.
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) authorization: String,
}

type Answers = dyn Fn(&Asked) -> Answer + Send + Sync;

/// A server that answers so, until the test ends.
pub(crate) fn serve(
    tls: Option<ServerConfig>,
    answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tls, answer): (_, Arc<Answers>) = (tls.map(Arc::new), Arc::new(answer));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (tls, answer) = (tls.clone(), Arc::clone(&answer));
            // A client that goes away ends its own connection alone.
            thread::spawn(move || match tls {
                Some(tls) => {
                    let connection = ServerConnection::new(tls).unwrap();
                    talk(StreamOwned::new(connection, stream), &*answer)
                }
                None => talk::<TcpStream>(stream, &*answer),
            });
        }
    });
    address
}

fn talk<S: Read + Write>(stream: S, answer: &Answers) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end().to_owned();
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let path = lines.first()?.split(' ').nth(1)?.to_owned();
        let authorization = lines.iter().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("authorization").then(|| value.to_owned())
        });
        let given = answer(&Asked { path, authorization: authorization.unwrap_or_default() });
        let length = given.length.unwrap_or(given.body.len() as u64 + given.zeros);
        let mut head = format!("HTTP/1.1 {} x\r\ncontent-length: {length}\r\n", given.status);
        for (name, value) in &given.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let out = stream.get_mut();
        out.write_all(format!("{head}\r\n").as_bytes()).ok()?;
        for piece in given.body.chunks(given.slowly.unwrap_or(usize::MAX)) {
            out.write_all(piece).ok()?;
            out.flush().ok()?;
            if given.slowly.is_some() {
                thread::sleep(std::time::Duration::from_millis(20));
            }
        }
        let zeros = [b' '; 64 * 1024];
        let mut left = given.zeros;
        while left > 0 {
            let piece = left.min(zeros.len() as u64);
            out.write_all(&zeros[..usize::try_from(piece).unwrap()]).ok()?;
            left -= piece;
        }
        out.flush().ok()?;
        if given.length.is_some_and(|length| length > given.body.len() as u64 + given.zeros) {
            return None;
        }
    }
}

/// An image: what a registry has under its paths, which a test may change.
pub(crate) struct Image {
    pub(crate) parts: HashMap<String, Answer>,
    pub(crate) layers: Vec<String>,
}

impl Image {
    /// `shop/web:1` of these layers.
    pub(crate) fn new(layers: &[Vec<u8>]) -> Self {
        let plain: Vec<(&[u8], String)> = layers.iter().map(|one| (&one[..], String::new())).collect();
        Self::with_marks(&plain)
    }

    /// With the digests of the layers' archives where they are not those of the blobs.
    pub(crate) fn with_marks(layers: &[(&[u8], String)]) -> Self {
        let mark = |(blob, mark): &(&[u8], String)| {
            if mark.is_empty() { format!("sha256:{}", digits(blob)) } else { mark.clone() }
        };
        let marks: Vec<String> = layers.iter().map(mark).collect();
        let config =
            json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": marks}});
        let mut image = Self { parts: HashMap::new(), layers: Vec::new() };
        let config = image.blob(config.to_string().as_bytes());
        let described: Vec<Value> = layers.iter().map(|(blob, _)| image.blob(blob)).collect();
        image.layers = described.iter().map(|one| one["digest"].as_str().unwrap().to_owned()).collect();
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": described});
        image.tag(&manifest);
        image
    }

    pub(crate) fn blob(&mut self, bytes: &[u8]) -> Value {
        let digest = format!("sha256:{}", digits(bytes));
        self.parts.insert(format!("/v2/shop/web/blobs/{digest}"), Answer::of(bytes));
        json!({"digest": digest, "size": bytes.len()})
    }

    /// A manifest or index by its digest, which is given.
    pub(crate) fn manifest(&mut self, document: &Value) -> String {
        let bytes = document.to_string().into_bytes();
        let digest = format!("sha256:{}", digits(&bytes));
        self.parts.insert(format!("/v2/shop/web/manifests/{digest}"), Answer::of(bytes));
        digest
    }

    pub(crate) fn tag(&mut self, document: &Value) {
        self.parts.insert("/v2/shop/web/manifests/1".to_owned(), Answer::of(document.to_string()));
    }

    pub(crate) fn answer(&self, asked: &Asked) -> Answer {
        self.parts.get(&asked.path).cloned().unwrap_or(Answer::status(404))
    }

    /// Serves it in the clear.
    pub(crate) fn serve(self) -> String {
        format!("http://{}", serve(None, move |asked| self.answer(asked)))
    }
}
