//! HTTP/1.1 over a Unix socket, as much of it as the Engine API needs: one GET a connection, every answer bounded.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::error::RuntimeError;

/// How long an answer may take, the events' first byte included.
const CALL: Duration = Duration::from_secs(10);
/// Longest text of a refusal that is read, in bytes.
const REFUSAL_BYTES: usize = 16 * 1024;
/// Longest answer that is read otherwise, in bytes: a list of 10,000 containers has about a third of it.
pub(crate) const LIST_BYTES: usize = 64 * 1024 * 1024;
/// Longest description of one container or image that is read, in bytes; usual ones have 5 to 20 KB.
pub(crate) const ONE_BYTES: usize = 4 * 1024 * 1024;

/// What a daemon answers to a request that it refuses.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    message: String,
}

/// A body that comes piece by piece, and the connection that it comes over.
#[derive(Debug)]
pub(crate) struct Stream {
    body: Incoming,
    /// Ends with the stream.
    _connection: tokio_util::task::AbortOnDropHandle<()>,
}

impl Stream {
    /// The next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, String>> {
        loop {
            match self.body.frame().await? {
                // Trailers tell nothing.
                Ok(frame) => match frame.into_data() {
                    Ok(data) => return Some(Ok(data)),
                    Err(_trailers) => {}
                },
                Err(error) => return Some(Err(error.to_string())),
            }
        }
    }
}

/// Where a daemon listens, and how its paths begin.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
    /// `/v<version>`, or nothing before the version is known.
    prefix: String,
}

impl Client {
    pub(crate) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_path_buf(), prefix: String::new() }
    }

    /// The same daemon, its paths of this version of the API; text that is no version is left out.
    pub(crate) fn of_version(self, version: &str) -> Self {
        let is_version = version.len() <= 10
            && version.split('.').count() == 2
            && version
                .split('.')
                .all(|part| !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit()));
        Self { prefix: if is_version { format!("/v{version}") } else { String::new() }, ..self }
    }

    /// The answer to a GET as text of at most `most` bytes, with the header of this name.
    pub(crate) async fn head(
        &self,
        doing: &'static str,
        path: &str,
        header: &str,
        most: usize,
    ) -> Result<(Option<String>, Bytes), RuntimeError> {
        let asking = async {
            let (answer, _connection) = self.ask(doing, path).await?;
            let value = answer.headers().get(header).and_then(|value| value.to_str().ok());
            let value = value.map(str::to_owned);
            Ok((value, read(doing, answer.into_body(), most).await?))
        };
        timeout(CALL, asking).await.map_err(|_elapsed| late(doing))?
    }

    /// The answer to a GET, read as JSON. `None` when there is no such thing.
    pub(crate) async fn get<T: serde::de::DeserializeOwned>(
        &self,
        doing: &'static str,
        path: &str,
        most: usize,
    ) -> Result<Option<T>, RuntimeError> {
        match self.head(doing, path, "", most).await {
            Ok((_, bytes)) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| RuntimeError::Unreadable { doing, message: error.to_string() }),
            Err(RuntimeError::Refused { status, .. }) if status == StatusCode::NOT_FOUND.as_u16() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A GET whose answer does not end by itself.
    pub(crate) async fn stream(&self, doing: &'static str, path: &str) -> Result<Stream, RuntimeError> {
        self.stream_within(doing, path, CALL).await
    }

    /// A GET whose answer is long, and begins within this time.
    pub(crate) async fn stream_within(
        &self,
        doing: &'static str,
        path: &str,
        patience: Duration,
    ) -> Result<Stream, RuntimeError> {
        let asked = timeout(patience, self.ask(doing, path)).await;
        let late = |_elapsed| RuntimeError::Timeout { doing, seconds: patience.as_secs() };
        let (answer, _connection) = asked.map_err(late)??;
        Ok(Stream { body: answer.into_body(), _connection })
    }

    async fn ask(
        &self,
        doing: &'static str,
        path: &str,
    ) -> Result<(Response<Incoming>, tokio_util::task::AbortOnDropHandle<()>), RuntimeError> {
        let broken = |error: hyper::Error| RuntimeError::Http { doing, message: error.to_string() };
        let stream = UnixStream::connect(&self.socket).await;
        let stream = stream.map_err(|error| RuntimeError::connect(&self.socket, error.to_string()))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // How the connection ends shows in what is read from it.
        let connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
            connection.await.unwrap_or_default();
        }));
        let request = Request::get(format!("{}{path}", self.prefix))
            .header(HOST, "docker")
            .body(Empty::<Bytes>::new())
            .map_err(|error| RuntimeError::Http { doing, message: error.to_string() })?;
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        if status.is_success() {
            return Ok((answer, connection));
        }
        let text = read(doing, answer.into_body(), REFUSAL_BYTES).await.unwrap_or_default();
        let refusal: Refusal = serde_json::from_slice(&text).unwrap_or_default();
        Err(RuntimeError::Refused { doing, status: status.as_u16(), message: refusal.message })
    }
}

async fn read(doing: &'static str, body: Incoming, most: usize) -> Result<Bytes, RuntimeError> {
    match Limited::new(body, most).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(RuntimeError::Http { doing, message: error.to_string() }),
    }
}

fn late(doing: &'static str) -> RuntimeError {
    RuntimeError::Timeout { doing, seconds: CALL.as_secs() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    /// Answers one request with these bytes and closes.
    async fn answered(answer: &[u8]) -> (tempfile::TempDir, Client) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("d.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let answer = answer.to_vec();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let _read = stream.read(&mut request).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        });
        (folder, Client::new(&socket))
    }

    fn with_body(status: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    #[tokio::test]
    async fn an_answer_is_read_a_missing_thing_is_none_and_a_refusal_keeps_its_words() {
        let (_folder, client) = answered(&with_body("200 OK", "[1,2]")).await;
        assert_eq!(client.get::<Vec<u8>>("x", "/x", ONE_BYTES).await.unwrap(), Some(vec![1, 2]));
        let (_folder, client) =
            answered(&with_body("404 Not Found", r#"{"message":"No such container"}"#)).await;
        assert_eq!(client.get::<Vec<u8>>("x", "/x", ONE_BYTES).await.unwrap(), None);
        let (_folder, client) = answered(&with_body("500 Oh", r#"{"message":"broken layer"}"#)).await;
        let error = client.get::<Vec<u8>>("describe a container", "/x", ONE_BYTES).await.unwrap_err();
        assert_eq!(error.to_string(), "describe a container: refused with 500: broken layer");
    }

    #[tokio::test]
    async fn what_is_no_http_no_json_or_too_long_is_an_error() {
        for (answer, most) in [
            (b"\0\0\x12\x04 not http".to_vec(), 100),
            (b"".to_vec(), 100),
            (with_body("200 OK", "{]"), 100),
            (with_body("200 OK", &"[".repeat(2_000)), 10_000),
            (with_body("200 OK", "[1,2,3,4,5,6,7,8]"), 4),
        ] {
            let (_folder, client) = answered(&answer).await;
            assert!(client.get::<Vec<u8>>("x", "/x", most).await.is_err(), "{}", answer.escape_ascii());
        }
    }

    #[tokio::test]
    async fn a_stream_gives_what_came_and_then_its_end() {
        let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab\n\r\n0\r\n\r\n";
        let (_folder, client) = answered(answer).await;
        let mut stream = client.stream("follow events", "/events").await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "ab\n");
        assert!(stream.next().await.is_none());
    }

    #[test]
    fn only_a_version_becomes_part_of_the_path() {
        for (version, want) in [("1.41", "/v1.41"), ("", ""), ("1", ""), ("1.x", ""), ("1.4/../x", "")] {
            assert_eq!(Client::new(Path::new("/d")).of_version(version).prefix, want, "{version:?}");
        }
    }
}
