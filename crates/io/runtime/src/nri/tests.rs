//! A session with a runtime that the test plays.

use std::io;
use std::sync::Mutex;

use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::message::{
    Configure, Configured, Container, LinuxContainer, PLUGIN_SERVICE, RUNTIME_SERVICE, Register, Request,
    Response, START_CONTAINER, StateChange, Status, Synchronize, Synchronized,
};
use super::session::Session;
use super::wire::{
    FRAME_HEADER, Message, REQUEST, RESPONSE, Streams, TO_PLUGIN, TO_RUNTIME, frame, frame_header,
};
use super::{Desk, SessionError, Told};

/// Takes down what it is told; only the container `good` may start.
#[derive(Default)]
struct Book(Mutex<Vec<String>>);

impl Desk for Book {
    async fn starting(&self, container: Told) -> Result<(), String> {
        let text = format!("starting {} {} {}", container.id, container.pid, container.cgroups_path);
        self.0.lock().unwrap().push(text);
        if container.id == "good" { Ok(()) } else { Err("no policy yet".to_owned()) }
    }
    async fn present(&self, container: Told) {
        self.0.lock().unwrap().push(format!("present {}", container.id));
    }
    fn asked(&self, by_runtime: bool) {
        self.0.lock().unwrap().push(format!("asked {by_runtime}"));
    }
}

/// The runtime's end.
struct Runtime {
    stream: DuplexStream,
    streams: Streams,
    call: u32,
}

impl Runtime {
    async fn send(&mut self, connection: u32, call: u32, kind: u8, payload: Vec<u8>) {
        let frame = frame(&Message { connection, call, kind, payload }).unwrap();
        self.stream.write_all(&frame).await.unwrap();
    }

    async fn receive(&mut self) -> io::Result<Message> {
        loop {
            if let Some(message) = self.streams.next().unwrap() {
                return Ok(message);
            }
            let mut head = [0; FRAME_HEADER];
            self.stream.read_exact(&mut head).await?;
            let (connection, bytes) = frame_header(head).unwrap();
            let mut payload = vec![0; bytes];
            self.stream.read_exact(&mut payload).await?;
            self.streams.push(connection, &payload);
        }
    }

    /// Takes the registration; with a code other than 0 it is refused.
    async fn register(&mut self, code: i32) -> Register {
        let message = self.receive().await.unwrap();
        assert_eq!((message.connection, message.kind), (TO_RUNTIME, REQUEST));
        let request = Request::decode(message.payload.as_slice()).unwrap();
        assert_eq!((request.service.as_str(), request.method.as_str()), (RUNTIME_SERVICE, "RegisterPlugin"));
        let status = Some(Status { code, message: "not wanted".to_owned() });
        let answer = Response { status, payload: Vec::new() };
        self.send(TO_RUNTIME, message.call, RESPONSE, answer.encode_to_vec()).await;
        Register::decode(request.payload.as_slice()).unwrap()
    }

    async fn call(&mut self, method: &str, payload: Vec<u8>) -> Response {
        self.call += 2;
        let request = Request {
            service: PLUGIN_SERVICE.to_owned(),
            method: method.to_owned(),
            payload,
            timeout_nano: 2_000_000_000,
        };
        self.send(TO_PLUGIN, self.call, REQUEST, request.encode_to_vec()).await;
        let message = self.receive().await.unwrap();
        assert_eq!((message.connection, message.call, message.kind), (TO_PLUGIN, self.call, RESPONSE));
        Response::decode(message.payload.as_slice()).unwrap()
    }
}

fn code(answer: &Response) -> i32 {
    answer.status.as_ref().map_or(0, |status| status.code)
}

fn container(id: &str) -> Container {
    let linux = Some(LinuxContainer { cgroups_path: format!("/pods/{id}") });
    Container { id: id.to_owned(), linux, pid: 42 }
}

fn ends() -> (DuplexStream, Runtime) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    (ours, Runtime { stream: theirs, streams: Streams::default(), call: 1 })
}

#[tokio::test]
async fn a_runtime_gets_its_plugin_its_list_and_an_answer_before_each_start() {
    let (ours, mut runtime) = ends();
    let book = Book::default();
    let play = async {
        let register = runtime.register(0).await;
        assert_eq!((register.name.as_str(), register.index.as_str()), ("neuvector", "99"));
        let configure = Configure { runtime_name: "containerd".to_owned(), runtime_version: "1".to_owned() };
        let answer = runtime.call("Configure", configure.encode_to_vec()).await;
        let configured = Configured::decode(answer.payload.as_slice()).unwrap();
        assert_eq!(configured.events, 0b10_0000, "StartContainer alone");
        let part = |id: &str, more| Synchronize { containers: vec![container(id)], more }.encode_to_vec();
        let answer = runtime.call("Synchronize", part("old", true)).await;
        assert!(Synchronized::decode(answer.payload.as_slice()).unwrap().more, "lists come in parts");
        assert_eq!(code(&runtime.call("Synchronize", part("older", false)).await), 0);
        for (id, event, want) in [("good", START_CONTAINER, 0), ("bad", START_CONTAINER, 9), ("bad", 7, 0)] {
            let change = StateChange { event, container: Some(container(id)) };
            let answer = runtime.call("StateChange", change.encode_to_vec()).await;
            assert_eq!(code(&answer), want, "{id} {event}");
        }
        assert_eq!(code(&runtime.call("Unheard", Vec::new()).await), 12);
        drop(runtime);
    };
    let (ended, ()) = tokio::join!(Session::new(ours, &book).hold(), play);
    assert!(matches!(ended, Err(SessionError::Broken(_))), "{ended:?}");
    let told = book.0.into_inner().unwrap();
    assert_eq!(
        told,
        [
            "asked true",
            "present old",
            "present older",
            "starting good 42 /pods/good",
            "starting bad 42 /pods/bad"
        ]
    );
}

#[tokio::test]
async fn a_runtime_that_does_not_want_the_plugin_is_not_served() {
    let (ours, mut runtime) = ends();
    let book = Book::default();
    let (ended, _) = tokio::join!(Session::new(ours, &book).hold(), runtime.register(7));
    assert!(matches!(&ended, Err(SessionError::Refused(reason)) if reason == "not wanted"), "{ended:?}");
}

#[tokio::test]
async fn what_is_no_message_ends_the_session() {
    for bytes in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0, 0, 1, 0, 0, 0, 11, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0xff]]
    {
        let (ours, mut runtime) = ends();
        runtime.stream.write_all(bytes).await.unwrap();
        let book = Book::default();
        let ended = Session::new(ours, &book).hold().await;
        assert!(matches!(ended, Err(SessionError::Wire(_) | SessionError::Unreadable { .. })), "{ended:?}");
    }
}
