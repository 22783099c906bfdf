//! Refusals, in the contract's form: `{code, error, message, …}` with a status.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use nv_identity::profile::Strength;
use serde::Serialize;
use utoipa::ToSchema;

use crate::imports::{ImportTask, ImportTaskData};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal $text:literal $status:ident,)*) => {
        /// The contract's error codes, as far as they are given out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $($(#[$doc])* $name = $number,)* }

        impl Code {
            /// The number.
            #[must_use]
            pub const fn number(self) -> u16 {
                match self { $(Self::$name => $number,)* }
            }
            /// The contract's text.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
            /// The usual status.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }
        }
    };
}

codes! {
    /// No such path.
    NotFound = 1 "URL not found" NOT_FOUND,
    /// The path has no such method.
    Method = 2 "Method not allowed" METHOD_NOT_ALLOWED,
    /// Not known, or the session has ended.
    Unauthorized = 3 "Authentication failed" UNAUTHORIZED,
    /// Known, but this is not done.
    NotAllowed = 4 "Operation not allowed" BAD_REQUEST,
    /// The request cannot be read.
    Format = 6 "Request in wrong format" BAD_REQUEST,
    /// No such object.
    ObjectNotFound = 7 "Object not found" NOT_FOUND,
    /// The store did not take it.
    WriteFailed = 8 "Write to cluster failed" INTERNAL_SERVER_ERROR,
    /// The store did not give it.
    ReadFailed = 9 "Read from cluster failed" INTERNAL_SERVER_ERROR,
    /// More must be said about what is looked for.
    MoreCriteria = 12 "More search criteria required" BAD_REQUEST,
    /// There is one of this name.
    Duplicate = 13 "Duplicate name" BAD_REQUEST,
    /// The password is not good enough.
    WeakPassword = 14 "Password is weak" BAD_REQUEST,
    /// No such name is possible.
    Name = 15 "Name in wrong format" BAD_REQUEST,
    /// It is used elsewhere.
    InUse = 16 "Object in use" CONFLICT,
    /// A file could not be imported.
    Import = 18 "Failed to import" BAD_REQUEST,
    /// The enforcer did not do it.
    Enforcer = 21 "Enforcer error" INTERNAL_SERVER_ERROR,
    /// Not for this user.
    Denied = 25 "Object access denied" FORBIDDEN,
    /// An image could not be scanned.
    RepositoryScan = 26 "Fail to scan repository" INTERNAL_SERVER_ERROR,
    /// A rule that is owned elsewhere.
    ReadOnlyRules = 46 "Read-only rule(s) cannot be updated" BAD_REQUEST,
    /// Too many failed logins.
    Blocked = 47 "Temporarily blocked because of too many login failures" UNAUTHORIZED,
    /// The password has ended.
    PasswordExpired = 48 "Password expired" UNAUTHORIZED,
    /// Something that should not happen.
    Server = 55 "Server Error" INTERNAL_SERVER_ERROR,
}

/// What a new password must have, as a refusal tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = PwdProfileBasic)]
pub struct PasswordProfileBasic {
    /// Characters.
    pub min_len: i64,
    /// Upper-case letters.
    pub min_uppercase_count: i64,
    /// Lower-case letters.
    pub min_lowercase_count: i64,
    /// Digits.
    pub min_digit_count: i64,
    /// Other characters.
    pub min_special_count: i64,
}

impl From<Strength> for PasswordProfileBasic {
    fn from(want: Strength) -> Self {
        Self {
            min_len: want.min_len.into(),
            min_uppercase_count: want.min_uppercase_count.into(),
            min_lowercase_count: want.min_lowercase_count.into(),
            min_digit_count: want.min_digit_count.into(),
            min_special_count: want.min_special_count.into(),
        }
    }
}

/// The body of a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Error)]
pub struct ErrorBody {
    /// Number of the kind.
    pub code: u16,
    /// Text of the kind.
    pub error: &'static str,
    /// What happened to what, and what to do.
    pub message: String,
    /// What a new password must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_profile_basic: Option<PasswordProfileBasic>,
    /// Rules that are owned elsewhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read_only_rule_ids: Vec<u32>,
    /// The import that failed, or that goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import_task_data: Option<ImportTaskData>,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    code: Code,
    status: StatusCode,
    message: String,
    strength: Option<Strength>,
    rules: Vec<u32>,
    import: Option<Box<ImportTask>>,
}

impl ApiError {
    /// With the code's usual status. An empty message becomes the code's text.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            status: code.status(),
            message: message.into(),
            strength: None,
            rules: Vec::new(),
            import: None,
        }
    }
    /// With another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
    /// With what a password must have.
    #[must_use]
    pub fn with_strength(mut self, strength: Strength) -> Self {
        self.strength = Some(strength);
        self
    }
    /// With the rules that are owned elsewhere.
    #[must_use]
    pub fn with_rules(mut self, rules: Vec<u32>) -> Self {
        self.rules = rules;
        self
    }
    /// With the import that failed, or that goes on.
    #[must_use]
    pub(crate) fn with_import(mut self, task: ImportTask) -> Self {
        self.import = Some(Box::new(task));
        self
    }
    /// What happened to what.
    #[must_use]
    pub fn message(&self) -> &str {
        if self.message.is_empty() { self.code.text() } else { &self.message }
    }
    /// No such object: `what` and its name.
    pub fn not_found(what: &str, name: &str) -> Self {
        let name: String = name.chars().take(256).collect();
        Self::new(Code::ObjectNotFound, format!("{what} {name:?} does not exist"))
    }
    /// The request cannot be read.
    pub fn format(message: impl Into<String>) -> Self {
        Self::new(Code::Format, message)
    }
    /// Not for this user.
    #[must_use]
    pub fn denied() -> Self {
        Self::new(Code::Denied, "")
    }
    /// Not known, or the session has ended.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(Code::Unauthorized, "")
    }
    /// The code.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }
    /// The status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// As it goes out.
    #[must_use]
    pub fn into_response(self) -> Response<Body> {
        let message = if self.message.is_empty() { self.code.text().to_owned() } else { self.message };
        let body = ErrorBody {
            code: self.code.number(),
            error: self.code.text(),
            message,
            password_profile_basic: self.strength.map(Into::into),
            read_only_rule_ids: self.rules,
            import_task_data: self.import.map(|task| ImportTaskData { data: *task }),
        };
        let mut response = Response::new(Body::from(serde_json::to_vec(&body).unwrap_or_default()));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}
