//! The table of routes, and how a request finds its way in it.
//!
//! Redirects follow what the contract's clients rely on: a trailing slash, `//` and other letter case lead to the right
//! path, by 301 for GET and by 307 otherwise.

use axum::http::Method;

use crate::query::unescape;
use crate::route::{Route, Segment};

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
    use nv_identity::permission::Category;
    use proptest::prelude::*;

    use super::*;
    use crate::answer::Empty;
    use crate::call::Call;
    use crate::error::ApiError;

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
