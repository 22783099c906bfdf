//! A route: its method, its path, the category of permission that it asks for and its handler. Without a category there is
//! no route, so nothing is served that was not decided on.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Response};
use bytes::Bytes;
use nv_identity::permission::{Category, Operation};
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use crate::answer::{Answer, Described};
use crate::call::Call;
use crate::error::ApiError;
use crate::json::decode;

/// What a handler's work ends in.
pub type Outcome = Pin<Box<dyn Future<Output = Result<Response<Body>, ApiError>> + Send>>;
type Handler = Arc<dyn Fn(Call, Bytes) -> Outcome + Send + Sync>;

/// One part of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// This text.
    Fixed(&'static str),
    /// Anything; the name is the parameter's.
    Any(&'static str),
}

/// A route.
#[derive(Clone)]
pub struct Route {
    /// Its method.
    pub method: Method,
    /// Its path, parameters as `:name`.
    pub path: &'static str,
    /// What it belongs to.
    pub category: Category,
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// It needs the rights to read although its method is not GET, or to write although it is.
    pub operation: Operation,
    /// A write that leaves no `RESTful.Write` event.
    pub silent: bool,
    /// Largest body, in bytes.
    pub max_body: usize,
    /// What it takes; `None` for no body.
    pub request: Option<fn() -> Described>,
    /// Content type of what it takes.
    pub request_kind: &'static str,
    /// What it answers.
    pub response: fn() -> Option<(&'static str, Described)>,
    pub(crate) segments: Vec<Segment>,
    handler: Handler,
}

/// Largest body unless a route says otherwise.
pub const MAX_BODY: usize = 4 * 1024 * 1024;

fn split(path: &'static str) -> Vec<Segment> {
    path.split('/')
        .skip(1)
        .map(|part| match part.strip_prefix(':') {
            Some(name) => Segment::Any(name),
            None => Segment::Fixed(part),
        })
        .collect()
}

impl Route {
    fn new(
        method: Method,
        path: &'static str,
        category: Category,
        summary: &'static str,
        response: fn() -> Option<(&'static str, Described)>,
        handler: Handler,
    ) -> Self {
        let operation = if method == Method::GET { Operation::Read } else { Operation::Write };
        Self {
            method,
            path,
            category,
            summary,
            operation,
            silent: false,
            max_body: MAX_BODY,
            request: None,
            request_kind: "application/json",
            response,
            segments: split(path),
            handler,
        }
    }

    /// A route whose handler takes no body.
    pub fn plain<F, O, A>(
        method: Method,
        path: &'static str,
        category: Category,
        summary: &'static str,
        handler: F,
    ) -> Self
    where
        F: Fn(Call) -> O + Send + Sync + 'static,
        O: Future<Output = Result<A, ApiError>> + Send + 'static,
        A: Answer,
    {
        let handler: Handler = Arc::new(move |call, _body| {
            let work = handler(call);
            Box::pin(async move { work.await.map(Answer::respond) })
        });
        Self::new(method, path, category, summary, A::describe, handler)
    }

    /// A GET.
    pub fn get<F, O, A>(path: &'static str, category: Category, summary: &'static str, handler: F) -> Self
    where
        F: Fn(Call) -> O + Send + Sync + 'static,
        O: Future<Output = Result<A, ApiError>> + Send + 'static,
        A: Answer,
    {
        Self::plain(Method::GET, path, category, summary, handler)
    }

    /// A DELETE.
    pub fn delete<F, O, A>(path: &'static str, category: Category, summary: &'static str, handler: F) -> Self
    where
        F: Fn(Call) -> O + Send + Sync + 'static,
        O: Future<Output = Result<A, ApiError>> + Send + 'static,
        A: Answer,
    {
        Self::plain(Method::DELETE, path, category, summary, handler)
    }

    /// A route whose handler takes a JSON body.
    pub fn taking<F, O, B, A>(
        method: Method,
        path: &'static str,
        category: Category,
        summary: &'static str,
        handler: F,
    ) -> Self
    where
        F: Fn(Call, B) -> O + Send + Sync + 'static,
        O: Future<Output = Result<A, ApiError>> + Send + 'static,
        B: DeserializeOwned + ToSchema,
        A: Answer,
    {
        let handler: Handler = Arc::new(move |call, body| match decode::<B>(&body) {
            Ok(input) => {
                let work = handler(call, input);
                Box::pin(async move { work.await.map(Answer::respond) })
            }
            Err(error) => Box::pin(std::future::ready(Err(error))),
        });
        let mut route = Self::new(method, path, category, summary, A::describe, handler);
        route.request = Some(Described::of::<B>);
        route
    }

    /// A POST whose body is a file of some other kind than JSON.
    pub fn upload<F, O, A>(path: &'static str, category: Category, summary: &'static str, handler: F) -> Self
    where
        F: Fn(Call, Bytes) -> O + Send + Sync + 'static,
        O: Future<Output = Result<A, ApiError>> + Send + 'static,
        A: Answer,
    {
        let handler: Handler = Arc::new(move |call, body| {
            let work = handler(call, body);
            Box::pin(async move { work.await.map(Answer::respond) })
        });
        let mut route = Self::new(Method::POST, path, category, summary, A::describe, handler);
        route.request = Some(Described::file);
        route.request_kind = "application/octet-stream";
        route
    }

    /// A POST with a body.
    pub fn post<F, O, B, A>(path: &'static str, category: Category, summary: &'static str, handler: F) -> Self
    where
        F: Fn(Call, B) -> O + Send + Sync + 'static,
        O: Future<Output = Result<A, ApiError>> + Send + 'static,
        B: DeserializeOwned + ToSchema,
        A: Answer,
    {
        Self::taking(Method::POST, path, category, summary, handler)
    }

    /// A PATCH with a body.
    pub fn patch<F, O, B, A>(
        path: &'static str,
        category: Category,
        summary: &'static str,
        handler: F,
    ) -> Self
    where
        F: Fn(Call, B) -> O + Send + Sync + 'static,
        O: Future<Output = Result<A, ApiError>> + Send + 'static,
        B: DeserializeOwned + ToSchema,
        A: Answer,
    {
        Self::taking(Method::PATCH, path, category, summary, handler)
    }

    /// Leaves no event of a write.
    #[must_use]
    pub const fn silent(mut self) -> Self {
        self.silent = true;
        self
    }
    /// Needs the rights to read, whatever its method.
    #[must_use]
    pub const fn reading(mut self) -> Self {
        self.operation = Operation::Read;
        self
    }
    /// Takes no body larger than this.
    #[must_use]
    pub const fn up_to(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// Runs the handler.
    #[must_use]
    pub fn handle(&self, call: Call, body: Bytes) -> Outcome {
        (self.handler)(call, body)
    }

    /// Names of its parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Any(name) => Some(*name),
            Segment::Fixed(_) => None,
        })
    }

    pub(crate) fn fits(&self, parts: &[&str], any_case: bool) -> bool {
        self.segments.len() == parts.len()
            && self.segments.iter().zip(parts).all(|(segment, part)| match segment {
                Segment::Fixed(text) if any_case => text.eq_ignore_ascii_case(part),
                Segment::Fixed(text) => text == part,
                Segment::Any(_) => !part.is_empty(),
            })
    }
    pub(crate) fn fixed(&self) -> usize {
        self.segments.iter().filter(|segment| matches!(segment, Segment::Fixed(_))).count()
    }
}
