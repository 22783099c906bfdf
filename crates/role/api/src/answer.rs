//! What a handler gives back, how it goes out, and how the OpenAPI document describes it: one trait for the three,
//! so that the document cannot drift from the handlers.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::body::Body;
use axum::http::{HeaderValue, Response, header};
use bytes::Bytes;
use serde::Serialize;
use utoipa::openapi::schema::{ArrayBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

/// A schema, and the named ones that it refers to.
pub struct Described {
    /// The schema itself, or a reference to a named one.
    pub schema: RefOr<Schema>,
    /// Named schemas.
    pub named: Vec<(String, RefOr<Schema>)>,
}

impl Described {
    /// A named type.
    #[must_use]
    pub fn of<T: ToSchema>() -> Self {
        let mut named = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut named);
        Self { schema: RefOr::Ref(Ref::from_schema_name(T::name())), named }
    }
    /// Bytes of a file.
    #[must_use]
    pub fn file() -> Self {
        let format = SchemaFormat::KnownFormat(KnownFormat::Binary);
        let bytes = ObjectBuilder::new().schema_type(Type::String).format(Some(format)).build();
        Self { schema: RefOr::T(Schema::Object(bytes)), named: Vec::new() }
    }
    fn within(self, key: &str, many: bool) -> Self {
        let inner = if many {
            RefOr::T(Schema::Array(ArrayBuilder::new().items(self.schema).build()))
        } else {
            self.schema
        };
        let object = ObjectBuilder::new().property(key, inner).required(key).build();
        Self { schema: RefOr::T(Schema::Object(object)), named: self.named }
    }
}

/// What a handler gives back.
pub trait Answer: Send + 'static {
    /// As it goes out, with status 200.
    fn respond(self) -> Response<Body>;
    /// Its content type and schema; `None` for no body.
    fn describe() -> Option<(&'static str, Described)>;
}

const JSON: &str = "application/json";

fn json_response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

/// Nothing: what a write without a payload answers.
#[derive(Clone, Copy, Debug)]
pub struct Empty;

impl Answer for Empty {
    fn respond(self) -> Response<Body> {
        json_response(Body::empty())
    }
    fn describe() -> Option<(&'static str, Described)> {
        None
    }
}

/// A document.
#[derive(Clone, Debug)]
pub struct Json<T>(pub T);

impl<T: Serialize + ToSchema + Send + 'static> Answer for Json<T> {
    fn respond(self) -> Response<Body> {
        match serde_json::to_vec(&self.0) {
            Ok(body) => json_response(body.into()),
            Err(error) => unserialisable(&error),
        }
    }
    fn describe() -> Option<(&'static str, Described)> {
        Some((JSON, Described::of::<T>()))
    }
}

fn unserialisable(error: &serde_json::Error) -> Response<Body> {
    tracing::error!(%error, "an answer could not be written as JSON");
    crate::error::ApiError::new(crate::error::Code::Server, "").into_response()
}

/// The keys that the contract wraps objects of a kind in.
pub trait Named: Serialize + ToSchema + Send + 'static {
    /// Around one.
    const ONE: &'static str;
    /// Around a list.
    const MANY: &'static str;
}

/// One object: `{"host": {…}}`.
#[derive(Clone, Debug)]
pub struct One<T>(pub T);

impl<T: Named> Answer for One<T> {
    fn respond(self) -> Response<Body> {
        let mut body = Vec::with_capacity(1024);
        open(&mut body, T::ONE);
        if let Err(error) = serde_json::to_writer(&mut body, &self.0) {
            return unserialisable(&error);
        }
        body.push(b'}');
        json_response(body.into())
    }
    fn describe() -> Option<(&'static str, Described)> {
        Some((JSON, Described::of::<T>().within(T::ONE, false)))
    }
}

fn open(body: &mut Vec<u8>, key: &str) {
    body.extend_from_slice(b"{\"");
    body.extend_from_slice(key.as_bytes());
    body.extend_from_slice(b"\":");
}

/// A list: `{"hosts": [{…}, …]}`. Items are made and written as the client takes them, so that a long list is never
/// in memory as a whole.
pub struct List<T> {
    items: Box<dyn Iterator<Item = T> + Send>,
}

impl<T> List<T> {
    /// Of what an iterator gives.
    pub fn new(items: impl Iterator<Item = T> + Send + 'static) -> Self {
        Self { items: Box::new(items) }
    }
}

/// Bytes that are written before they are handed on.
const CHUNK_BYTES: usize = 64 * 1024;

struct Writer<T> {
    items: Box<dyn Iterator<Item = T> + Send>,
    started: bool,
    done: bool,
}

impl<T: Named> Writer<T> {
    /// The next bytes; `None` behind the last.
    fn next(&mut self) -> Option<Vec<u8>> {
        if self.done {
            return None;
        }
        let mut body = Vec::with_capacity(4096);
        while body.len() < CHUNK_BYTES {
            let Some(item) = self.items.next() else {
                if !self.started {
                    open(&mut body, T::MANY);
                    body.push(b'[');
                }
                body.extend_from_slice(b"]}");
                self.done = true;
                return Some(body);
            };
            if self.started {
                body.push(b',');
            } else {
                open(&mut body, T::MANY);
                body.push(b'[');
                self.started = true;
            }
            if let Err(error) = serde_json::to_writer(&mut body, &item) {
                tracing::error!(%error, "an item could not be written as JSON");
                body.extend_from_slice(b"null");
            }
        }
        Some(body)
    }
}

impl<T: Named> Answer for List<T> {
    fn respond(self) -> Response<Body> {
        let mut writer = Writer { items: self.items, started: false, done: false };
        let first = writer.next().unwrap_or_default();
        // What fits into one chunk gets a length, by which the server also decides whether to compress.
        if writer.done {
            return json_response(first.into());
        }
        let chunks = futures::stream::unfold(
            (writer, VecDeque::from([first])),
            |(mut writer, mut ready): (Writer<T>, _)| async move {
                let chunk = match ready.pop_front() {
                    Some(chunk) => chunk,
                    None => writer.next()?,
                };
                Some((Ok::<_, Infallible>(Bytes::from(chunk)), (writer, ready)))
            },
        );
        json_response(Body::from_stream(chunks))
    }
    fn describe() -> Option<(&'static str, Described)> {
        Some((JSON, Described::of::<T>().within(T::MANY, true)))
    }
}

/// Any of two answers of one shape.
pub enum Either<A, B> {
    /// The one, which the document describes.
    This(A),
    /// The other.
    That(B),
}

impl<A: Answer, B: Answer> Answer for Either<A, B> {
    fn respond(self) -> Response<Body> {
        match self {
            Self::This(answer) => answer.respond(),
            Self::That(answer) => answer.respond(),
        }
    }
    fn describe() -> Option<(&'static str, Described)> {
        A::describe()
    }
}

/// A ready-made response with another content type.
pub struct Raw(pub Response<Body>);

impl Answer for Raw {
    fn respond(self) -> Response<Body> {
        self.0
    }
    fn describe() -> Option<(&'static str, Described)> {
        let schema = String::schema();
        Some(("text/event-stream", Described { schema, named: Vec::new() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, ToSchema)]
    struct Item {
        n: usize,
        pad: String,
    }
    impl Named for Item {
        const ONE: &'static str = "item";
        const MANY: &'static str = "items";
    }

    async fn text(response: Response<Body>) -> String {
        String::from_utf8(axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec())
            .unwrap()
    }

    #[tokio::test]
    async fn a_list_of_any_length_is_one_document() {
        for count in [0, 1, 2, 5_000] {
            let items = (0..count).map(|n| Item { n, pad: "x".repeat(40) });
            let whole: serde_json::Value =
                serde_json::from_str(&text(List::new(items).respond()).await).unwrap();
            let list = whole["items"].as_array().unwrap();
            assert_eq!(list.len(), count);
            assert!(list.iter().enumerate().all(|(at, item)| item["n"] == at));
        }
    }

    #[tokio::test]
    async fn one_object_is_wrapped_in_its_key() {
        assert_eq!(
            text(One(Item { n: 7, pad: String::new() }).respond()).await,
            r#"{"item":{"n":7,"pad":""}}"#
        );
        assert_eq!(text(Empty.respond()).await, "");
    }
}
