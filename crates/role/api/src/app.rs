//! From a request to its answer: route, caller, right, body, handler, event.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use nv_identity::api_key;
use nv_identity::password::Passwords;
use nv_identity::permission::Category;
use nv_identity::session::Sessions;
use nv_identity::throttle::Throttle;
use nv_role_controller::Controller;
use nv_store::Store;
use nv_telemetry::Clock;
use tokio::sync::Semaphore;

use crate::accounts::Accounts;
use crate::call::{Call, Caller};
use crate::error::{ApiError, Code};
use crate::query::Query;
use crate::route::Route;
use crate::table::{Found, Table};
use crate::usage::{History, INTERVAL};
use crate::{Deps, events, routes};

/// Header of a session's token.
pub const TOKEN: &str = "x-auth-token";
/// Header of an API key, `<name>:<secret>`; looked at only without a token.
pub const API_KEY: &str = "x-auth-apikey";

/// Longest time that a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Most passwords that are hashed at one time; each takes 19 MiB and tens of milliseconds.
const HASHES_AT_ONCE: usize = 2;

/// What the API works on.
pub struct App {
    pub(crate) controller: Controller,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) accounts: Accounts,
    pub(crate) passwords: Arc<Passwords>,
    pub(crate) log_level: String,
    pub(crate) hashing: Semaphore,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) shutdown: tokio_util::sync::CancellationToken,
    pub(crate) queries: crate::assets::Queries<crate::dto::asset::VulnerabilityAssetV2>,
    pub(crate) image_queries: crate::assets::Queries<crate::dto::asset_view::ImageAssetViewV2>,
    pub(crate) imports: crate::imports::Imports,
    sessions: Mutex<Sessions>,
    throttle: Mutex<Throttle>,
    history: Mutex<History>,
    table: Table,
}

/// A lock whose holder panicked still guards whole values: nothing between its changes can fail.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl App {
    /// Over these parts.
    pub(crate) fn new(
        deps: Deps,
        accounts: Accounts,
        passwords: Arc<Passwords>,
        log_level: String,
        shutdown: tokio_util::sync::CancellationToken,
    ) -> Self {
        Self {
            controller: deps.controller,
            store: deps.store,
            clock: deps.clock,
            accounts,
            passwords,
            log_level,
            hashing: Semaphore::new(HASHES_AT_ONCE),
            streams: Arc::new(Semaphore::new(crate::stream::MAX_STREAMS)),
            shutdown,
            queries: crate::assets::Queries::default(),
            image_queries: crate::assets::Queries::default(),
            imports: crate::imports::Imports::default(),
            sessions: Mutex::default(),
            throttle: Mutex::default(),
            history: Mutex::default(),
            table: routes::table(),
        }
    }

    pub(crate) fn sessions(&self) -> MutexGuard<'_, Sessions> {
        lock(&self.sessions)
    }
    pub(crate) fn throttle(&self) -> MutexGuard<'_, Throttle> {
        lock(&self.throttle)
    }
    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.history)
    }
    /// The routes that are served.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Answers a request.
    pub async fn answer(self: Arc<Self>, request: Request<Body>, peer: IpAddr) -> Response<Body> {
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let raw_query = request.uri().query().unwrap_or_default().to_owned();
        let mut response = match self.table.find(&method, &path) {
            Found::Route(route, parameters) => {
                let query = Query::parse(&raw_query);
                match self.enter(route, parameters, query, request, peer).await {
                    Ok(response) => response,
                    Err(error) => error.into_response(),
                }
            }
            Found::Redirect(to) => redirect(&method, &to, &raw_query),
            Found::Methods(methods) => only(&method, &methods),
            Found::Nothing => ApiError::new(Code::NotFound, "").into_response(),
        };
        let headers = response.headers_mut();
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    async fn enter(
        self: &Arc<Self>,
        route: &Route,
        parameters: crate::table::Parameters,
        query: Query,
        request: Request<Body>,
        peer: IpAddr,
    ) -> Result<Response<Body>, ApiError> {
        let (head, body) = request.into_parts();
        let caller = self.caller(&head.headers, route.category)?;
        let call = Call {
            app: Arc::clone(self),
            caller,
            category: route.category,
            parameters,
            query,
            headers: head.headers,
            peer,
        };
        let let_in = route.category == Category::Anonymous
            || call.caller.access().is_some_and(|access| access.may_call(route.category, route.operation));
        if !let_in {
            events::access_denied(&call, &head.method, head.uri.path());
            return Err(ApiError::denied());
        }
        let body = read_body(&call.headers, body, route.max_body).await?;
        let writes = route.method != Method::GET && !route.silent;
        let audited = writes.then(|| (call.clone(), body.clone()));
        let outcome = route.handle(call, body).await;
        match (&outcome, audited) {
            (Ok(_), Some((call, body))) => {
                events::written(&call, route, head.uri.path(), &body);
            }
            (Err(error), Some((call, _))) if error.code() == Code::Denied => {
                events::access_denied(&call, &head.method, head.uri.path());
            }
            _ => {}
        }
        outcome
    }

    /// Who calls. Whoever must be known and is not is refused; who need not be known may still be.
    fn caller(&self, headers: &HeaderMap, category: Category) -> Result<Caller, ApiError> {
        let found = self.known(headers);
        match found {
            Some(caller) => Ok(caller),
            None if category == Category::Anonymous => Ok(Caller::Nobody),
            None => Err(ApiError::unauthorized()),
        }
    }

    fn known(&self, headers: &HeaderMap) -> Option<Caller> {
        let book = self.accounts.book();
        if let Some(token) = headers.get(TOKEN) {
            let token = token.to_str().ok()?;
            let session = self.sessions().touch(token, self.clock.monotonic())?.clone();
            // A user that was deleted meanwhile is no one.
            let user = Arc::clone(book.users.get(&session.user)?);
            let access = Arc::new(book.access(&user.value.assignment));
            return Some(Caller::User { user, session, access });
        }
        let (name, secret) = api_key::split(headers.get(API_KEY)?.to_str().ok()?)?;
        let key = book.keys.get(&name)?;
        if !key.value.accepts(secret, self.clock.now()) {
            return None;
        }
        let assignment = key.value.assignment.clone();
        let access = Arc::new(book.access(&assignment));
        Some(Caller::Key { name, assignment, access })
    }

    /// Every five seconds until the shutdown: ends the sessions whose time is over, each with an event, and notes how
    /// much is used.
    pub(crate) async fn sweep(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            let ended = self.sessions().sweep(self.clock.monotonic());
            for session in ended {
                events::timed_out(&self, &session);
            }
            self.history().note(&self.controller.view());
        }
    }
}

async fn read_body(headers: &HeaderMap, body: Body, most: usize) -> Result<Bytes, ApiError> {
    let too_large = || {
        ApiError::format(format!("the body is larger than the {most} bytes that are accepted here"))
            .with_status(StatusCode::PAYLOAD_TOO_LARGE)
    };
    let declared =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > u64::try_from(most).unwrap_or(u64::MAX)) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, most).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(ApiError::format(format!("the body did not arrive whole: {error}"))),
        Err(_elapsed) => {
            Err(ApiError::format(format!("the body took longer than {} s", BODY_TIMEOUT.as_secs()))
                .with_status(StatusCode::REQUEST_TIMEOUT))
        }
    }
}

fn redirect(method: &Method, to: &str, query: &str) -> Response<Body> {
    let status =
        if *method == Method::GET { StatusCode::MOVED_PERMANENTLY } else { StatusCode::TEMPORARY_REDIRECT };
    let location = if query.is_empty() { to.to_owned() } else { format!("{to}?{query}") };
    let mut response = Response::new(Body::empty());
    match HeaderValue::from_str(&location) {
        Ok(location) => {
            *response.status_mut() = status;
            response.headers_mut().insert(header::LOCATION, location);
            response
        }
        Err(_unprintable) => ApiError::new(Code::NotFound, "").into_response(),
    }
}

fn only(method: &Method, methods: &[Method]) -> Response<Body> {
    let allow = methods.iter().map(Method::as_str).chain(["OPTIONS"]).collect::<Vec<_>>().join(", ");
    let mut response = if *method == Method::OPTIONS {
        Response::new(Body::empty())
    } else {
        ApiError::new(Code::Method, "").into_response()
    };
    if let Ok(allow) = HeaderValue::from_str(&allow) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}
