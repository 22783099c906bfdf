//! What a rule set says about the engine itself, with the engine's own bounds.

use crate::control::Engine;
use crate::error::Reason;

/// Settings of a rule set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether rules run and decide (`SecRuleEngine`).
    pub engine: Engine,
    /// Whether bodies of requests are looked at (`SecRequestBodyAccess`).
    pub request_body: bool,
    /// Whether bodies of responses are looked at (`SecResponseBodyAccess`).
    pub response_body: bool,
    /// Bytes of a request's body that are kept (`SecRequestBodyLimit`, at most 128 MiB).
    pub request_body_limit: usize,
    /// Bytes of a response's body that are kept (`SecResponseBodyLimit`, at most 128 MiB).
    pub response_body_limit: usize,
    /// Media types of responses whose bodies are looked at (`SecResponseBodyMimeType`), in small letters.
    pub response_types: Vec<String>,
    /// Bytes of a transaction's values as rules see them, before and after transformations. What is beyond them is not
    /// looked at, and the transaction says so.
    pub view_bytes: usize,
    /// Steps that a transaction may take: about one for each byte that a transformation or an operator looks at, and
    /// one for each rule. What is beyond them is not looked at, and the transaction says so.
    pub steps: u64,
}

/// Bytes of a body that can be asked for.
const MAX_BODY: usize = 128 << 20;

impl Default for Settings {
    fn default() -> Self {
        Self {
            engine: Engine::On,
            request_body: true,
            response_body: true,
            request_body_limit: 128 * 1024,
            response_body_limit: 512 * 1024,
            response_types: ["text/plain", "text/html", "text/xml", "application/json"]
                .map(str::to_owned)
                .to_vec(),
            view_bytes: 64 << 20,
            steps: 200_000_000,
        }
    }
}

/// Directives that say something about logs, files and other modules, which are not this engine's.
const PASSED_OVER: &[&str] = &[
    "secargumentseparator",
    "secargumentslimit",
    "secauditengine",
    "secauditlog",
    "secauditlog2",
    "secauditlogdirmode",
    "secauditlogfilemode",
    "secauditlogformat",
    "secauditlogparts",
    "secauditlogrelevantstatus",
    "secauditlogstoragedir",
    "secauditlogtype",
    "seccollectiontimeout",
    "seccomponentsignature",
    "seccookieformat",
    "secdatadir",
    "secdebuglog",
    "secdebugloglevel",
    "secpcrematchlimit",
    "secpcrematchlimitrecursion",
    "secrequestbodyinmemorylimit",
    "secrequestbodyjsondepthlimit",
    "secrequestbodylimitaction",
    "secrequestbodynofileslimit",
    "secresponsebodylimitaction",
    "secrulesautoload",
    "secserversignature",
    "secstatusengine",
    "sectmpdir",
    "sectmpsaveuploadedfiles",
    "secunicodemapfile",
    "secuploaddir",
    "secuploadfilelimit",
    "secuploadfilemode",
    "secuploadkeepfiles",
    "secwebappid",
];

impl Settings {
    /// Takes a directive; none when it is no setting.
    pub(crate) fn take(&mut self, name: &str, words: &[Vec<u8>]) -> Option<Result<(), Reason>> {
        let name = name.to_ascii_lowercase();
        if PASSED_OVER.contains(&name.as_str()) {
            return Some(Ok(()));
        }
        let value = words.first().map(|word| String::from_utf8_lossy(word).into_owned()).unwrap_or_default();
        let wrong = |what| Reason::Value { what, value: value.clone() };
        let on = || Engine::parse(&value).ok_or_else(|| wrong("switch"));
        let size = || value.parse::<usize>().map(|size| size.min(MAX_BODY)).map_err(|_bad| wrong("size"));
        Some(match name.as_str() {
            "secruleengine" => on().map(|engine| self.engine = engine),
            "secrequestbodyaccess" => on().map(|on| self.request_body = on == Engine::On),
            "secresponsebodyaccess" => on().map(|on| self.response_body = on == Engine::On),
            "secrequestbodylimit" => size().map(|size| self.request_body_limit = size),
            "secresponsebodylimit" => size().map(|size| self.response_body_limit = size),
            "secresponsebodymimetype" => {
                let types = words.iter().map(|word| String::from_utf8_lossy(word).to_ascii_lowercase());
                self.response_types.extend(types.take(64));
                Ok(())
            }
            "secresponsebodymimetypesclear" => {
                self.response_types.clear();
                Ok(())
            }
            _ => return None,
        })
    }
}
