//! Variables of a transaction, and which of them a rule looks at.

use std::sync::Arc;

use crate::error::Reason;
use crate::operator::expression::Expression;
use crate::operator::pattern;

/// A list of named values of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum List {
    ArgsGet,
    ArgsPost,
    RequestHeaders,
    RequestCookies,
    Files,
    FilesNames,
    FilesSizes,
    FilesContent,
    PartHeaders,
    XmlText,
    XmlAttributes,
    ResponseHeaders,
    Tx,
    Global,
    Address,
    Session,
    User,
    Resource,
    Matched,
}

impl List {
    /// How many there are.
    pub(crate) const COUNT: usize = 19;

    /// Its place in a table.
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// Whether rules write it while they run.
    pub(crate) const fn changes(self) -> bool {
        matches!(
            self,
            Self::Tx
                | Self::Global
                | Self::Address
                | Self::Session
                | Self::User
                | Self::Resource
                | Self::Matched
        )
    }
}

/// A variable with one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Scalar {
    ArgsCombinedSize,
    FilesCombinedSize,
    FullRequestLength,
    InboundDataError,
    MatchedVar,
    MatchedVarName,
    MultipartStrictError,
    MultipartUnmatchedBoundary,
    OutboundDataError,
    QueryString,
    RemoteAddr,
    RemotePort,
    ReqbodyError,
    ReqbodyErrorMsg,
    ReqbodyProcessor,
    RequestBasename,
    RequestBody,
    RequestBodyLength,
    RequestFilename,
    RequestLine,
    RequestMethod,
    RequestProtocol,
    RequestUri,
    RequestUriRaw,
    ResponseBody,
    ResponseContentLength,
    ResponseContentType,
    ResponseProtocol,
    ResponseStatus,
    RuleId,
    RuleMsg,
    RuleSeverity,
    ServerAddr,
    ServerPort,
    UniqueId,
    HighestSeverity,
}

impl Scalar {
    /// Whether rules change it while they run.
    pub(crate) const fn changes(self) -> bool {
        matches!(
            self,
            Self::MatchedVar
                | Self::MatchedVarName
                | Self::RuleId
                | Self::RuleMsg
                | Self::RuleSeverity
                | Self::ReqbodyProcessor
                | Self::HighestSeverity
        )
    }
}

/// Where values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Source {
    /// The values of a list.
    Values(List),
    /// The names of a list's values.
    Names(List),
    /// One value.
    One(Scalar),
}

impl Source {
    /// Whether rules change it while they run.
    pub(crate) const fn changes(self) -> bool {
        match self {
            Self::Values(list) | Self::Names(list) => list.changes(),
            Self::One(scalar) => scalar.changes(),
        }
    }
}

use List as L;
use Scalar as S;
use Source::{Names, One, Values};

/// Every variable by its name in the rule language, and the sources that it stands for.
pub const VARIABLES: &[&str] = &{
    let mut names = [""; TABLE.len()];
    let mut at = 0;
    while at < names.len() {
        #[expect(clippy::indexing_slicing, reason = "both arrays have the length that `at` is compared with")]
        {
            names[at] = TABLE[at].0;
        }
        at += 1;
    }
    names
};

const TABLE: &[(&str, &[Source])] = &[
    ("ARGS", &[Values(L::ArgsGet), Values(L::ArgsPost)]),
    ("ARGS_COMBINED_SIZE", &[One(S::ArgsCombinedSize)]),
    ("ARGS_GET", &[Values(L::ArgsGet)]),
    ("ARGS_GET_NAMES", &[Names(L::ArgsGet)]),
    ("ARGS_NAMES", &[Names(L::ArgsGet), Names(L::ArgsPost)]),
    ("ARGS_POST", &[Values(L::ArgsPost)]),
    ("ARGS_POST_NAMES", &[Names(L::ArgsPost)]),
    ("FILES", &[Values(L::Files)]),
    ("FILES_COMBINED_SIZE", &[One(S::FilesCombinedSize)]),
    ("FILES_NAMES", &[Values(L::FilesNames)]),
    ("FILES_SIZES", &[Values(L::FilesSizes)]),
    ("FILES_TMP_CONTENT", &[Values(L::FilesContent)]),
    ("FULL_REQUEST_LENGTH", &[One(S::FullRequestLength)]),
    ("GLOBAL", &[Values(L::Global)]),
    ("HIGHEST_SEVERITY", &[One(S::HighestSeverity)]),
    ("INBOUND_DATA_ERROR", &[One(S::InboundDataError)]),
    ("IP", &[Values(L::Address)]),
    ("MATCHED_VAR", &[One(S::MatchedVar)]),
    ("MATCHED_VARS", &[Values(L::Matched)]),
    ("MATCHED_VARS_NAMES", &[Names(L::Matched)]),
    ("MATCHED_VAR_NAME", &[One(S::MatchedVarName)]),
    ("MULTIPART_FILENAME", &[Values(L::Files)]),
    ("MULTIPART_NAME", &[Values(L::FilesNames)]),
    ("MULTIPART_PART_HEADERS", &[Values(L::PartHeaders)]),
    ("MULTIPART_STRICT_ERROR", &[One(S::MultipartStrictError)]),
    ("MULTIPART_UNMATCHED_BOUNDARY", &[One(S::MultipartUnmatchedBoundary)]),
    ("OUTBOUND_DATA_ERROR", &[One(S::OutboundDataError)]),
    ("QUERY_STRING", &[One(S::QueryString)]),
    ("REMOTE_ADDR", &[One(S::RemoteAddr)]),
    ("REMOTE_PORT", &[One(S::RemotePort)]),
    ("REQBODY_ERROR", &[One(S::ReqbodyError)]),
    ("REQBODY_ERROR_MSG", &[One(S::ReqbodyErrorMsg)]),
    ("REQBODY_PROCESSOR", &[One(S::ReqbodyProcessor)]),
    ("REQBODY_PROCESSOR_ERROR", &[One(S::ReqbodyError)]),
    ("REQUEST_BASENAME", &[One(S::RequestBasename)]),
    ("REQUEST_BODY", &[One(S::RequestBody)]),
    ("REQUEST_BODY_LENGTH", &[One(S::RequestBodyLength)]),
    ("REQUEST_COOKIES", &[Values(L::RequestCookies)]),
    ("REQUEST_COOKIES_NAMES", &[Names(L::RequestCookies)]),
    ("REQUEST_FILENAME", &[One(S::RequestFilename)]),
    ("REQUEST_HEADERS", &[Values(L::RequestHeaders)]),
    ("REQUEST_HEADERS_NAMES", &[Names(L::RequestHeaders)]),
    ("REQUEST_LINE", &[One(S::RequestLine)]),
    ("REQUEST_METHOD", &[One(S::RequestMethod)]),
    ("REQUEST_PROTOCOL", &[One(S::RequestProtocol)]),
    ("REQUEST_URI", &[One(S::RequestUri)]),
    ("REQUEST_URI_RAW", &[One(S::RequestUriRaw)]),
    ("RESOURCE", &[Values(L::Resource)]),
    ("RESPONSE_BODY", &[One(S::ResponseBody)]),
    ("RESPONSE_CONTENT_LENGTH", &[One(S::ResponseContentLength)]),
    ("RESPONSE_CONTENT_TYPE", &[One(S::ResponseContentType)]),
    ("RESPONSE_HEADERS", &[Values(L::ResponseHeaders)]),
    ("RESPONSE_HEADERS_NAMES", &[Names(L::ResponseHeaders)]),
    ("RESPONSE_PROTOCOL", &[One(S::ResponseProtocol)]),
    ("RESPONSE_STATUS", &[One(S::ResponseStatus)]),
    ("SERVER_ADDR", &[One(S::ServerAddr)]),
    ("SERVER_PORT", &[One(S::ServerPort)]),
    ("SESSION", &[Values(L::Session)]),
    ("TX", &[Values(L::Tx)]),
    ("UNIQUE_ID", &[One(S::UniqueId)]),
    ("USER", &[Values(L::User)]),
];

/// What a macro of a text (`%{RULE.id}`) may name besides [`VARIABLES`].
const RULE: &[(&str, Scalar)] = &[("id", S::RuleId), ("msg", S::RuleMsg), ("severity", S::RuleSeverity)];

/// Which values of a variable.
#[derive(Clone, Debug)]
pub(crate) enum Selector {
    All,
    /// Those of this name, in any case.
    Name(Box<[u8]>),
    /// Those whose name the pattern is found in, in any case.
    Pattern(Box<str>, Arc<Expression>),
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, Self::All) => true,
            (Self::Name(one), Self::Name(two)) => one.eq_ignore_ascii_case(two),
            (Self::Pattern(one, _), Self::Pattern(two, _)) => one == two,
            (Self::All | Self::Name(_) | Self::Pattern(..), _) => false,
        }
    }
}

impl Selector {
    pub(crate) fn takes(&self, name: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Name(known) => known.eq_ignore_ascii_case(name),
            Self::Pattern(_, pattern) => pattern.is_match(name),
        }
    }
}

/// One part of what a rule looks at: `ARGS:name`, `&ARGS`, `!ARGS:/pattern/`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    /// As the rule language names the variable.
    pub(crate) variable: &'static str,
    pub(crate) sources: &'static [Source],
    pub(crate) selector: Selector,
    /// How many there are, instead of their values.
    pub(crate) count: bool,
}

impl Target {
    /// Reads `VARIABLE` or `VARIABLE:selector`.
    pub(crate) fn parse(text: &[u8], count: bool) -> Result<Self, Reason> {
        let (name, selector) = match text.iter().position(|byte| *byte == b':') {
            Some(at) => (text.get(..at).unwrap_or_default(), text.get(at.saturating_add(1)..)),
            None => (text, None),
        };
        let shown = || Reason::Variable(String::from_utf8_lossy(text).into_owned());
        if name.eq_ignore_ascii_case(b"XML") {
            let (variable, sources): (_, &[Source]) = match selector {
                None | Some(b"/*" | b"//*") => ("XML:/*", &[Values(L::XmlText)]),
                Some(b"//@*") => ("XML://@*", &[Values(L::XmlAttributes)]),
                Some(_) => return Err(shown()),
            };
            return Ok(Self { variable, sources, selector: Selector::All, count });
        }
        let known = TABLE.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name));
        let (variable, sources) = known.ok_or_else(shown)?;
        let selector = match selector {
            None => Selector::All,
            Some([b'/', pattern @ .., b'/']) => pattern_selector(pattern)?,
            Some([b'\'', b'/', pattern @ .., b'/', b'\'']) => pattern_selector(pattern)?,
            Some([b'\'', name @ .., b'\'']) => Selector::Name(name.into()),
            Some(name) => Selector::Name(name.into()),
        };
        Ok(Self { variable, sources, selector, count })
    }

    /// The variable of a macro, `%{variable.key}`.
    pub(crate) fn of_macro(text: &[u8]) -> Result<Self, Reason> {
        let at = text.iter().position(|byte| matches!(byte, b'.' | b':'));
        let (name, key) = match at {
            Some(at) => text.split_at_checked(at).unwrap_or_default(),
            None => (text, &[][..]),
        };
        let key = key.get(1..).unwrap_or_default();
        if name.eq_ignore_ascii_case(b"RULE") {
            let scalar = RULE.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(key));
            let sources: &[Source] = match scalar {
                Some((_, S::RuleId)) => &[One(S::RuleId)],
                Some((_, S::RuleMsg)) => &[One(S::RuleMsg)],
                Some(_) => &[One(S::RuleSeverity)],
                None => return Err(Reason::Variable(String::from_utf8_lossy(text).into_owned())),
            };
            return Ok(Self { variable: "RULE", sources, selector: Selector::All, count: false });
        }
        let mut target = Self::parse(name, false)?;
        if !key.is_empty() {
            target.selector = Selector::Name(key.into());
        }
        Ok(target)
    }
}

fn pattern_selector(pattern: &[u8]) -> Result<Selector, Reason> {
    let expression = pattern::compile(pattern, true).map_err(Reason::Pattern)?;
    Ok(Selector::Pattern(String::from_utf8_lossy(pattern).into(), Arc::new(expression)))
}

/// What a rule looks at: all of `look`, without what `except` takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Targets {
    pub(crate) look: Vec<Target>,
    pub(crate) except: Vec<Target>,
}

impl Targets {
    /// Parts of a rule's targets that are taken.
    const MAX: usize = 256;

    /// Reads `A|B:c|!B:/d/|&E`.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, Reason> {
        let mut targets = Self::default();
        targets.extend(text)?;
        if targets.look.is_empty() {
            return Err(Reason::Missing("a variable"));
        }
        Ok(targets)
    }

    /// Adds what `text` says.
    pub(crate) fn extend(&mut self, text: &[u8]) -> Result<(), Reason> {
        for part in parts(text) {
            match part.trim_ascii() {
                [b'!', part @ ..] => self.except.push(Target::parse(part, false)?),
                [b'&', part @ ..] => self.look.push(Target::parse(part, true)?),
                part => self.look.push(Target::parse(part, false)?),
            }
        }
        if self.look.len().saturating_add(self.except.len()) > Self::MAX {
            return Err(Reason::Bound { what: "targets of a rule", most: Self::MAX });
        }
        Ok(())
    }

    /// Whether rules change what this looks at.
    pub(crate) fn change(&self) -> bool {
        self.look.iter().flat_map(|target| target.sources).any(|source| source.changes())
    }
}

/// Parts between bars; bars and commas within `/pattern/` are of the pattern.
fn parts(text: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let (mut begun, mut in_pattern, mut before) = (0_usize, false, 0_u8);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'/' if !in_pattern && matches!(before, b':' | b'\'') => {
                // `XML:/*` and `XML://@*` are paths, not patterns.
                let name = text.get(begun..at.saturating_sub(1)).unwrap_or_default();
                in_pattern = !name.trim_ascii().to_ascii_uppercase().ends_with(b"XML");
            }
            b'/' if in_pattern && before != b'\\' => in_pattern = false,
            b'|' | b',' if !in_pattern => {
                parts.push(text.get(begun..at).unwrap_or_default());
                begun = at.saturating_add(1);
            }
            _ => {}
        }
        before = *byte;
    }
    parts.push(text.get(begun..).unwrap_or_default());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_with_selectors_counts_and_exceptions() {
        let targets =
            Targets::parse(b"ARGS|&REQUEST_HEADERS:Host|!ARGS:/^a$|b$/|TX:'x y'|XML:/*|XML://@*|!args:z")
                .unwrap();
        let shown: Vec<_> = targets.look.iter().map(|target| (target.variable, target.count)).collect();
        assert_eq!(
            shown,
            [
                ("ARGS", false),
                ("REQUEST_HEADERS", true),
                ("TX", false),
                ("XML:/*", false),
                ("XML://@*", false)
            ]
        );
        assert_eq!(targets.look[2].selector, Selector::Name(b"x y"[..].into()));
        assert!(targets.except[0].selector.takes(b"A") && !targets.except[0].selector.takes(b"ac"));
        assert!(targets.except[1].selector.takes(b"Z"));
    }

    #[test]
    fn what_is_not_known_is_refused_by_its_name() {
        assert_eq!(Targets::parse(b"GEO:country").unwrap_err(), Reason::Variable("GEO:country".to_owned()));
        assert!(matches!(Targets::parse(b"XML:/a/b"), Err(Reason::Variable(_))));
        assert!(matches!(Targets::parse(b"!ARGS"), Err(Reason::Missing(_))));
    }
}
