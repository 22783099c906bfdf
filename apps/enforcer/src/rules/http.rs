//! Requests of cases: from their parts, or from the bytes of a whole one.

use base64::Engine as _;

use super::cases::Input;

/// A request as a server has it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: Vec<u8>,
    pub(super) target: Vec<u8>,
    pub(super) protocol: Vec<u8>,
    pub(super) fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// The request of a case; a length and the close of the connection are added as a client does, unless the case
    /// says not to.
    pub(super) fn of(input: &Input) -> Result<Self, String> {
        if let Some(encoded) = &input.encoded_request {
            let text: String = encoded.split_ascii_whitespace().collect();
            let bytes = base64::engine::general_purpose::STANDARD.decode(text);
            return Self::parse(&bytes.map_err(|error| format!("encoded_request: {error}"))?);
        }
        let bytes =
            |text: &Option<String>, default: &str| text.as_deref().unwrap_or(default).as_bytes().to_vec();
        let mut request = Self {
            method: bytes(&input.method, "GET"),
            target: bytes(&input.uri, "/"),
            protocol: input.version.clone().into_bytes(),
            fields: Vec::new(),
            body: bytes(&input.data, ""),
        };
        let fields = input.headers.0.iter();
        request
            .fields
            .extend(fields.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())));
        if input.autocomplete_headers.unwrap_or(true) {
            request.complete_all();
        }
        Ok(request)
    }

    /// What go-ftw's client adds: cases rely on it.
    fn complete_all(&mut self) {
        if !self.body.is_empty() {
            self.complete("Content-Type", FORM);
            let plain = !self.body.iter().any(|byte| matches!(byte, b'%' | b'+'));
            if plain && self.field("content-type") == Some(FORM.as_bytes()) {
                self.body = encoded(&self.body);
            }
        }
        if self.field("content-type").is_some_and(|value| value.starts_with(b"multipart/form-data;")) {
            self.body = with_crlf(&self.body);
        }
        self.complete("Connection", "close");
        let may_have_body = [&b"POST"[..], b"PUT", b"PATCH", b"DELETE"].contains(&self.method.as_slice());
        if !self.body.is_empty() || may_have_body {
            self.complete("Content-Length", &self.body.len().to_string());
        }
    }

    pub(super) fn field(&self, name: &str) -> Option<&[u8]> {
        let found = self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|(_, value)| value.as_slice())
    }

    fn complete(&mut self, name: &str, value: &str) {
        if self.field(name).is_none() {
            self.fields.push((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        }
    }

    /// Reads a request of HTTP/1 (RFC 9112), chunks joined.
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut request = Self::default();
        let mut rest = bytes;
        let line = |rest: &mut &[u8]| -> Vec<u8> {
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            let (line, after) = rest.split_at_checked(end).unwrap_or_default();
            *rest = after.get(1..).unwrap_or_default();
            line.strip_suffix(b"\r").unwrap_or(line).to_vec()
        };
        let first = line(&mut rest);
        let mut parts = first.splitn(2, |byte| *byte == b' ');
        request.method = parts.next().unwrap_or_default().to_vec();
        let target = parts.next().unwrap_or_default();
        let cut = target.iter().rposition(|byte| *byte == b' ').unwrap_or(target.len());
        let (target, protocol) = target.split_at_checked(cut).unwrap_or_default();
        request.target = target.to_vec();
        request.protocol = protocol.trim_ascii().to_vec();
        if request.method.is_empty() {
            return Err("encoded_request has no request line".to_owned());
        }
        loop {
            let field = line(&mut rest);
            if field.is_empty() {
                break;
            }
            let at = field.iter().position(|byte| *byte == b':').unwrap_or(field.len());
            let (name, value) = field.split_at_checked(at).unwrap_or_default();
            request.fields.push((name.to_vec(), value.get(1..).unwrap_or_default().trim_ascii().to_vec()));
        }
        if request.field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case(b"chunked")) {
            loop {
                let size = line(&mut rest);
                let size = std::str::from_utf8(&size)
                    .ok()
                    .and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
                let Some(size) = size.filter(|size| *size > 0) else { break };
                let (chunk, after) = rest.split_at_checked(size).unwrap_or((rest, &[]));
                request.body.extend_from_slice(chunk);
                rest = after;
                line(&mut rest);
            }
        } else {
            request.body = rest.to_vec();
        }
        Ok(request)
    }
}

const FORM: &str = "application/x-www-form-urlencoded";

/// A form whose names and values are as they are meant, percent-encoded.
fn encoded(form: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(form.len());
    let mut in_name = true;
    for byte in form {
        match byte {
            b'&' => {
                in_name = true;
                out.push(b'&');
            }
            b'=' if in_name => {
                in_name = false;
                out.push(b'=');
            }
            b' ' => out.push(b'+'),
            b'-' | b'_' | b'.' | b'~' => out.push(*byte),
            byte if byte.is_ascii_alphanumeric() => out.push(*byte),
            byte => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    out
}

/// Line feeds alone become ends of lines.
fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        if *byte == b'\n' && out.last() != Some(&b'\r') {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_adds_is_added_to_a_plain_form() {
        let input = Input { method: Some("POST".into()), data: Some("a=<b c>&d".into()), ..Input::default() };
        let request = Request::of(&input).unwrap();
        assert_eq!(request.body, b"a=%3Cb+c%3E&d");
        assert_eq!(request.field("content-length"), Some(&b"13"[..]));
        assert_eq!(request.field("content-type"), Some(FORM.as_bytes()));
        assert_eq!(with_crlf(b"a\nb\r\n"), b"a\r\nb\r\n");
    }

    #[test]
    fn a_whole_request_is_read_with_its_chunks_joined() {
        let request = Request::parse(
            b"POST /a b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        )
        .unwrap();
        assert_eq!((request.target.as_slice(), request.body.as_slice()), (&b"/a b"[..], &b"abcde"[..]));
        assert_eq!(request.field("host"), Some(&b"x"[..]));
        assert!(Request::parse(b"").is_err());
    }
}
