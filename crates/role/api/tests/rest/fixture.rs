//! A controller and its API in a folder of their own.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use nv_identity::password::Cost;
use nv_pki::tls;
use nv_role_api::{Api, ApiConfig, App, Deps};
use nv_role_controller::{Controller, ControllerConfig};
use nv_store::{EventLog, RedbStore, Retention, Store};
use nv_telemetry::{Clock as _, ManualClock, SystemClock};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub(crate) const PASSWORD: &str = "Changed1234";

/// What an answer was.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

pub(crate) struct Fixture {
    pub(crate) app: Arc<App>,
    pub(crate) controller: Controller,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) one_time: String,
    pub(crate) api: Option<Api>,
    pub(crate) shutdown: CancellationToken,
    _folder: TempDir,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Fixture {
    /// Just started: no one has logged in yet.
    pub(crate) async fn fresh() -> Self {
        let folder = TempDir::new().unwrap();
        let shutdown = CancellationToken::new();
        // Certificates are checked by the machine's clock, so this one starts with it.
        let clock = Arc::new(ManualClock::new(SystemClock::new().now()));
        let store: Arc<dyn Store> = Arc::new(RedbStore::open(folder.path().join("store")).unwrap());
        let events = EventLog::open(folder.path().join("events"), Retention::default()).unwrap();
        let config = ControllerConfig {
            grpc_bind: "127.0.0.1:0".parse().unwrap(),
            state_dir: folder.path().to_owned(),
            cluster_name: "test".into(),
            host_name: "host-a".into(),
            database_key: None,
        };
        let deps = nv_role_controller::Deps { store: Arc::clone(&store), events, clock: clock.clone() };
        let controller = nv_role_controller::start(config, deps, shutdown.clone()).await.unwrap();
        let credential = controller
            .authority()
            .issue_server(&["localhost".to_owned()], &["127.0.0.1".parse().unwrap()], clock.now())
            .unwrap();
        let config = ApiConfig {
            address: "127.0.0.1:0".parse().unwrap(),
            tls: Arc::new(tls::web_server(&credential).unwrap()),
            password_cost: Cost { memory_kib: 8, passes: 1, lanes: 1 },
            log_level: "debug".into(),
        };
        let deps = Deps { controller: controller.clone(), store, clock: clock.clone() };
        let mut api = Api::bind(config, deps, shutdown.clone()).await.unwrap();
        let one_time = api.take_one_time_password().unwrap().expose_secret().to_owned();
        assert!(api.take_one_time_password().is_none(), "it is given once");
        Self { app: api.app(), controller, clock, one_time, api: Some(api), shutdown, _folder: folder }
    }

    /// With the administrator's password changed, and a session of theirs.
    pub(crate) async fn started() -> (Self, String) {
        let fixture = Self::fresh().await;
        let body = json!({"password": {"username": "admin", "password": fixture.one_time, "new_password": PASSWORD}});
        let answer = fixture.call(Method::POST, "/v1/auth", "", Some(body)).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let token = answer.body["token"]["token"].as_str().unwrap().to_owned();
        (fixture, token)
    }

    pub(crate) async fn raw(&self, request: Request<Body>) -> Answer {
        let response = Arc::clone(&self.app).answer(request, "192.0.2.7".parse().unwrap()).await;
        let (head, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).unwrap_or_else(|_yaml| json!(String::from_utf8_lossy(&bytes)))
        };
        Answer { status: head.status, headers: head.headers, body }
    }

    /// A call with a session's token, with an API key (`key:name:secret`), or with neither (empty).
    pub(crate) async fn call(&self, method: Method, path: &str, who: &str, body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(key) = who.strip_prefix("key:") {
            request = request.header("X-Auth-Apikey", key);
        } else if !who.is_empty() {
            request = request.header("X-Auth-Token", who);
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.raw(request.body(body).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str, who: &str) -> Value {
        let answer = self.call(Method::GET, path, who, None).await;
        assert_eq!(answer.status, StatusCode::OK, "GET {path}: {answer:?}");
        answer.body
    }

    /// A write that must be done.
    pub(crate) async fn done(&self, method: Method, path: &str, who: &str, body: Value) -> Value {
        let answer = self.call(method.clone(), path, who, Some(body)).await;
        assert_eq!(answer.status, StatusCode::OK, "{method} {path}: {answer:?}");
        answer.body
    }

    pub(crate) async fn log_in(&self, user: &str, password: &str) -> Answer {
        let body = json!({"password": {"username": user, "password": password}});
        self.call(Method::POST, "/v1/auth", "", Some(body)).await
    }

    pub(crate) async fn session(&self, user: &str, password: &str) -> String {
        let answer = self.log_in(user, password).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.body["token"]["token"].as_str().unwrap().to_owned()
    }

    /// A user with these roles, and a session of theirs.
    pub(crate) async fn user(&self, admin: &str, name: &str, role: &str, domains: Value) -> String {
        let user =
            json!({"user": {"fullname": name, "password": PASSWORD, "role": role, "role_domains": domains}});
        self.done(Method::POST, "/v1/user", admin, user).await;
        self.session(name, PASSWORD).await
    }

    /// Imports a file, and asks how that went until it is over.
    pub(crate) async fn import(&self, who: &str, path: &str, kind: &str, file: &str) -> Answer {
        let request = |tid: Option<&str>, body: Body| {
            let request = Request::post(path).header("x-auth-token", who).header("content-type", kind);
            let request =
                tid.into_iter().fold(request, |request, tid| request.header("x-transaction-id", tid));
            self.raw(request.body(body).unwrap())
        };
        let begun = request(None, file.to_owned().into()).await;
        assert_eq!(begun.status, StatusCode::PARTIAL_CONTENT, "{begun:?}");
        let tid = begun.body["data"]["tid"].as_str().unwrap().to_owned();
        loop {
            let answer = request(Some(&tid), Body::empty()).await;
            if answer.status != StatusCode::PARTIAL_CONTENT {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asks again and again until the answer is as wanted.
    pub(crate) async fn until(&self, path: &str, who: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let limit = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let answer = self.get(path, who).await;
            if wanted(&answer) {
                return answer;
            }
            assert!(tokio::time::Instant::now() < limit, "{path} never was as wanted: {answer:#}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Every value under `key` of a list.
pub(crate) fn each<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|item| item[key].as_str().unwrap()).collect()
}
