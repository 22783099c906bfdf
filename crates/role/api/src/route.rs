//! The table of routes, and how a request finds its way in it.
//!
//! A route is its method, its path, the category of permission that it asks for and its handler: without a category
//! there is no route, so nothing is served that was not decided on. Redirects follow what the contract's clients rely
//! on: a trailing slash, `//` and other letter case lead to the right path, by 301 for GET and by 307 otherwise.

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
use crate::query::unescape;

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
    segments: Vec<Segment>,
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

    fn fits(&self, parts: &[&str], any_case: bool) -> bool {
        self.segments.len() == parts.len()
            && self.segments.iter().zip(parts).all(|(segment, part)| match segment {
                Segment::Fixed(text) if any_case => text.eq_ignore_ascii_case(part),
                Segment::Fixed(text) => text == part,
                Segment::Any(_) => !part.is_empty(),
            })
    }
    fn fixed(&self) -> usize {
        self.segments.iter().filter(|segment| matches!(segment, Segment::Fixed(_))).count()
    }
}

/// Parameters of a path, by name.
#[derive(Clone, Debug, Default)]
pub struct Parameters(Vec<(&'static str, String)>);

impl Parameters {
    /// A parameter; empty when the route has none of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value.as_str())
    }
}

/// Where a request leads to.
pub enum Found<'a> {
    /// To a route.
    Route(&'a Route, Parameters),
    /// To another path, raw as it goes into `Location`.
    Redirect(String),
    /// Nowhere, but the path has these methods.
    Methods(Vec<Method>),
    /// Nowhere.
    Nothing,
}

/// All routes.
#[derive(Clone)]
pub struct Table {
    routes: Vec<Route>,
}

/// Most parts that a path may have.
const MAX_PARTS: usize = 32;

/// Removes `//`, `.` and `..`; a slash at the end stays.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let mut clean = String::with_capacity(path.len().saturating_add(1));
    for part in &parts {
        clean.push('/');
        clean.push_str(part);
    }
    if clean.is_empty() || path.ends_with('/') {
        clean.push('/');
    }
    clean
}

impl Table {
    /// Of these routes.
    #[must_use]
    pub const fn new(routes: Vec<Route>) -> Self {
        Self { routes }
    }
    /// All of them.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    fn at(&self, method: Option<&Method>, path: &str, any_case: bool) -> Option<&Route> {
        let parts: Vec<&str> = path.strip_prefix('/')?.split('/').take(MAX_PARTS).collect();
        self.routes
            .iter()
            .filter(|route| method.is_none_or(|method| route.method == *method))
            .filter(|route| route.fits(&parts, any_case))
            // A fixed part is more than any part.
            .max_by_key(|route| route.fixed())
    }

    /// Where `method` of `path` (raw, without query) leads to.
    #[must_use]
    pub fn find(&self, method: &Method, path: &str) -> Found<'_> {
        if let Some(route) = self.at(Some(method), path, false) {
            let parts = path.split('/').skip(1);
            let parameters = route
                .segments
                .iter()
                .zip(parts)
                .filter_map(|(segment, part)| match segment {
                    Segment::Any(name) => Some((*name, unescape(part, false))),
                    Segment::Fixed(_) => None,
                })
                .collect();
            return Found::Route(route, Parameters(parameters));
        }
        let other_slash = |path: &str| match path.strip_suffix('/') {
            Some(without) => without.to_owned(),
            None => format!("{path}/"),
        };
        let slashed = other_slash(path);
        if self.at(Some(method), &slashed, false).is_some() {
            return Found::Redirect(slashed);
        }
        let clean = clean(path);
        for candidate in [other_slash(&clean), clean] {
            if let Some(route) = self.at(Some(method), &candidate, true) {
                return Found::Redirect(canonical(route, &candidate));
            }
        }
        let mut methods: Vec<Method> = self
            .routes
            .iter()
            .map(|route| &route.method)
            .filter(|method| self.at(Some(method), path, false).is_some())
            .cloned()
            .collect();
        methods.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        methods.dedup();
        if methods.is_empty() { Found::Nothing } else { Found::Methods(methods) }
    }
}

/// The path as the route spells it, with the request's parameters.
fn canonical(route: &Route, path: &str) -> String {
    let mut canonical = String::with_capacity(path.len());
    for (segment, part) in route.segments.iter().zip(path.split('/').skip(1)) {
        canonical.push('/');
        canonical.push_str(match segment {
            Segment::Fixed(text) => text,
            Segment::Any(_) => part,
        });
    }
    canonical
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Empty;
    use proptest::prelude::*;

    async fn nothing(_call: Call) -> Result<Empty, ApiError> {
        Ok(Empty)
    }

    fn table() -> Table {
        let route = |method, path| Route::plain(method, path, Category::AnyUser, "", nothing);
        Table::new(vec![
            route(Method::GET, "/v1/group"),
            route(Method::POST, "/v1/group"),
            route(Method::GET, "/v1/group/:name"),
            route(Method::PATCH, "/v1/service/config"),
            route(Method::GET, "/v1/service/:name"),
            route(Method::GET, "/v1/log/violation"),
            route(Method::GET, "/v1/log/violation/workload"),
        ])
    }

    fn describe(method: &Method, path: &str) -> String {
        match table().find(method, path) {
            Found::Route(route, parameters) => {
                let values: Vec<_> = route.parameters().map(|name| parameters.get(name).to_owned()).collect();
                format!("{} {}", route.path, values.join(",")).trim().to_owned()
            }
            Found::Redirect(to) => format!("-> {to}"),
            Found::Methods(methods) => {
                format!("only {}", methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", "))
            }
            Found::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn a_request_finds_its_route_or_the_way_to_it() {
        for (method, path, want) in [
            (Method::GET, "/v1/group", "/v1/group"),
            (Method::GET, "/v1/group/nv.web.shop", "/v1/group/:name nv.web.shop"),
            (Method::GET, "/v1/group/a%2Fb+c", "/v1/group/:name a/b+c"),
            (Method::GET, "/v1/group/", "-> /v1/group"),
            (Method::GET, "/v1/group/x/", "-> /v1/group/x"),
            (Method::POST, "/v1/group/", "-> /v1/group"),
            (Method::POST, "/v1//group", "-> /v1/group"),
            (Method::GET, "//v1/./group/../group/Web", "-> /v1/group/Web"),
            (Method::GET, "/V1/Group/Web", "-> /v1/group/Web"),
            (Method::GET, "/V1/Group/", "-> /v1/group"),
            (Method::GET, "/v1/service/config", "/v1/service/:name config"),
            (Method::PATCH, "/v1/service/config", "/v1/service/config"),
            (Method::PATCH, "/v1/service/web", "only GET"),
            (Method::DELETE, "/v1/group", "only GET, POST"),
            (Method::OPTIONS, "/v1/group", "only GET, POST"),
            (Method::GET, "/v1/log/violation/workload", "/v1/log/violation/workload"),
            (Method::GET, "/v1/nothing", "nothing"),
            (Method::GET, "/", "nothing"),
            (Method::GET, "", "nothing"),
            (Method::GET, "/v1/group/a/b", "nothing"),
            (Method::GET, "/../../etc/passwd", "nothing"),
        ] {
            assert_eq!(describe(&method, path), want, "{method} {path}");
        }
    }

    proptest! {
        #[test]
        fn a_redirect_leads_to_a_route_in_one_step(path in "(/|v1|V1|group|Group|service|config|\\.\\.|\\.|x){0,12}") {
            for method in [Method::GET, Method::PATCH, Method::POST] {
                if let Found::Redirect(to) = table().find(&method, &path) {
                    prop_assert!(matches!(table().find(&method, &to), Found::Route(..)), "{} -> {}", path, to);
                    prop_assert!(!to.starts_with("//"), "{}", to);
                }
            }
        }
    }
}
