//! The operator's own name, logo, banners and terms, from `CUSTOM_*` values.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Largest decoded value, in bytes.
const MAX_BYTES: usize = 512 * 1024;

/// What an operator shows as its own. Texts are shown as text, never as HTML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branding {
    /// Product name in the title and on the login page.
    pub name: String,
    /// Logo of the login page: content type and bytes.
    pub logo: Option<(&'static str, Vec<u8>)>,
    /// Terms to accept at the first login.
    pub terms: Option<String>,
    /// Banner above every page.
    pub header: Option<Banner>,
    /// Banner below every page.
    pub footer: Option<Banner>,
}

/// A line of text on a colour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Banner {
    /// The text.
    pub text: String,
    /// A CSS colour: `#rgb`, `#rrggbb` or a name.
    pub colour: String,
}

/// Why a `CUSTOM_*` value is not usable.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BrandingError {
    /// It is not base64 of at most 512 KiB.
    #[error("{name} is not base64 of at most {MAX_BYTES} bytes")]
    Encoding {
        /// The variable.
        name: &'static str,
    },
    /// The logo is neither SVG, PNG, JPEG nor GIF.
    #[error("CUSTOM_LOGIN_LOGO is neither SVG, PNG, JPEG nor GIF")]
    Logo,
    /// A colour is not a CSS colour.
    #[error("{name} must be a CSS colour name or #rrggbb")]
    Colour {
        /// The variable.
        name: &'static str,
    },
}

impl Default for Branding {
    fn default() -> Self {
        Self { name: "NeuVector".to_owned(), logo: None, terms: None, header: None, footer: None }
    }
}

impl Branding {
    /// Reads `CUSTOM_TITLE` (plain) and, base64-encoded, `CUSTOM_LOGIN_LOGO`, `CUSTOM_EULA_POLICY`,
    /// `CUSTOM_PAGE_HEADER_CONTENT`, `CUSTOM_PAGE_FOOTER_CONTENT`, with the plain `…_COLOR` of both.
    /// `lookup` gives a variable's value; absent and empty are the same.
    ///
    /// # Errors
    /// [`BrandingError`] names the variable that is wrong.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, BrandingError> {
        let plain =
            |name: &str| lookup(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let decoded = |name: &'static str| plain(name).map(|value| decode(name, &value)).transpose();
        let text = |name: &'static str| {
            decoded(name)?
                .map(|bytes| String::from_utf8(bytes).map_err(|_invalid| BrandingError::Encoding { name }))
                .transpose()
        };
        let banner = |content: &'static str, colour: &'static str| -> Result<Option<Banner>, BrandingError> {
            let Some(text) = text(content)? else { return Ok(None) };
            let value = plain(colour).unwrap_or_else(|| "#2f4a6d".to_owned());
            if !is_colour(&value) {
                return Err(BrandingError::Colour { name: colour });
            }
            Ok(Some(Banner { text, colour: value }))
        };
        Ok(Self {
            name: plain("CUSTOM_TITLE").unwrap_or_else(|| Self::default().name),
            logo: match decoded("CUSTOM_LOGIN_LOGO")? {
                Some(bytes) => Some((image_type(&bytes).ok_or(BrandingError::Logo)?, bytes)),
                None => None,
            },
            terms: text("CUSTOM_EULA_POLICY")?,
            header: banner("CUSTOM_PAGE_HEADER_CONTENT", "CUSTOM_PAGE_HEADER_COLOR")?,
            footer: banner("CUSTOM_PAGE_FOOTER_CONTENT", "CUSTOM_PAGE_FOOTER_COLOR")?,
        })
    }

    /// What the page is told about it.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let banner = |banner: &Option<Banner>| {
            banner.as_ref().map(|banner| serde_json::json!({ "text": banner.text, "colour": banner.colour }))
        };
        serde_json::json!({
            "name": self.name,
            "logo": self.logo.is_some(),
            "terms": self.terms,
            "header": banner(&self.header),
            "footer": banner(&self.footer),
        })
    }
}

fn decode(name: &'static str, value: &str) -> Result<Vec<u8>, BrandingError> {
    let compact: String = value.split_ascii_whitespace().collect();
    match STANDARD.decode(compact) {
        Ok(bytes) if bytes.len() <= MAX_BYTES => Ok(bytes),
        _ => Err(BrandingError::Encoding { name }),
    }
}

fn image_type(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        _ => {
            let text = std::str::from_utf8(bytes).ok()?;
            text.contains("<svg").then_some("image/svg+xml")
        }
    }
}

fn is_colour(value: &str) -> bool {
    let hex = value.strip_prefix('#');
    match hex {
        Some(digits) => {
            matches!(digits.len(), 3 | 6) && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
        }
        None => value.len() <= 32 && value.bytes().all(|letter| letter.is_ascii_alphabetic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_values_the_product_has_its_own_name() {
        assert_eq!(Branding::from_lookup(|_| None), Ok(Branding::default()));
    }

    #[test]
    fn a_wrong_value_is_named() {
        for (name, value, want) in [
            ("CUSTOM_LOGIN_LOGO", "!!", BrandingError::Encoding { name: "CUSTOM_LOGIN_LOGO" }),
            ("CUSTOM_LOGIN_LOGO", "aGVsbG8=", BrandingError::Logo),
            ("CUSTOM_EULA_POLICY", "/w==", BrandingError::Encoding { name: "CUSTOM_EULA_POLICY" }),
        ] {
            let got = Branding::from_lookup(|asked| (asked == name).then(|| value.to_owned()));
            assert_eq!(got, Err(want), "{name}={value}");
        }
        let got = Branding::from_lookup(|asked| match asked {
            "CUSTOM_PAGE_HEADER_CONTENT" => Some("aGVsbG8=".to_owned()),
            "CUSTOM_PAGE_HEADER_COLOR" => Some("url(http://x)".to_owned()),
            _ => None,
        });
        assert_eq!(got, Err(BrandingError::Colour { name: "CUSTOM_PAGE_HEADER_COLOR" }));
    }
}
