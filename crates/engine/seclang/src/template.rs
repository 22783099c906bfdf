//! Texts with macros, `%{variable.key}`, that are filled in when a rule runs.

use crate::error::Reason;
use crate::variable::Target;

/// A text with macros.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(Box<[u8]>),
    Variable(Box<Target>),
}

impl Template {
    /// Macros of a text that are taken.
    const MAX: usize = 64;

    /// Reads a text; a macro of an unknown variable is refused.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, Reason> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(start) = memchr::memmem::find(rest, b"%{") {
            let (before, inside) =
                (rest.get(..start), rest.get(start.saturating_add(2)..).unwrap_or_default());
            let Some(end) = memchr::memchr(b'}', inside) else { break };
            if let Some(before) = before.filter(|before| !before.is_empty()) {
                parts.push(Part::Text(before.into()));
            }
            parts.push(Part::Variable(Box::new(Target::of_macro(inside.get(..end).unwrap_or_default())?)));
            if parts.len() > Self::MAX {
                return Err(Reason::Bound { what: "macros of a text", most: Self::MAX });
            }
            rest = inside.get(end.saturating_add(1)..).unwrap_or_default();
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(Self(parts))
    }

    /// The text, where it has no macro.
    pub(crate) fn plain(&self) -> Option<&[u8]> {
        match self.0.as_slice() {
            [] => Some(&[]),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Fills the macros in: `fill` appends the value of a variable. The result is cut at `most` bytes.
    pub(crate) fn expand(&self, most: usize, mut fill: impl FnMut(&Target, &mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Variable(target) => fill(target, &mut out),
            }
            if out.len() > most {
                out.truncate(most);
                break;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macros_are_filled_in_and_the_result_is_bounded() {
        let template = Template::parse(b"a %{tx.b} c %{MATCHED_VAR} %{open").unwrap();
        let fill = |target: &Target, out: &mut Vec<u8>| out.extend_from_slice(target.variable.as_bytes());
        assert_eq!(template.expand(100, fill), b"a TX c MATCHED_VAR %{open");
        assert_eq!(template.expand(3, fill), b"a T");
        assert_eq!(template.plain(), None);
        assert_eq!(Template::parse(b"plain").unwrap().plain(), Some(&b"plain"[..]));
        assert!(Template::parse(b"%{geo.country}").is_err());
    }
}
