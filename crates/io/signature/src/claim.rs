//! What a signature says it is of.

use serde::Deserialize;

use crate::error::SignatureError;

/// What cosign signs since its third version, as a statement of in-toto.
const IMAGE_SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";
/// How a statement is written (in-toto attestation framework).
const STATEMENT: &str = "application/vnd.in-toto+json";
/// What cosign and others signed before ("simple signing").
const SIMPLE_TYPES: [&str; 2] = ["cosign container image signature", IMAGE_SIGNED];

/// The message behind a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// A payload of simple signing, signed as it is.
    Simple(Vec<u8>),
    /// An envelope of DSSE.
    Envelope {
        /// How the payload is written.
        payload_type: String,
        /// The payload.
        payload: Vec<u8>,
    },
}

#[derive(Deserialize)]
struct Simple {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: SimpleImage,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct SimpleImage {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

#[derive(Deserialize)]
struct Statement {
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    kind: String,
}

#[derive(Deserialize)]
struct Subject {
    digest: std::collections::BTreeMap<String, String>,
}

impl Claim {
    /// The very bytes that were signed.
    pub(crate) fn signed_bytes(&self) -> Vec<u8> {
        match self {
            Self::Simple(payload) => payload.clone(),
            // "Pre-authentication encoding" of DSSE 1.0.
            Self::Envelope { payload_type, payload } => {
                let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
                [head.as_bytes(), payload].concat()
            }
        }
    }

    /// The payload alone.
    pub(crate) fn payload(&self) -> &[u8] {
        match self {
            Self::Simple(payload) | Self::Envelope { payload, .. } => payload,
        }
    }

    /// Whether it says that the image of this digest (`sha256:…`) is signed. Other statements on an image, such as how
    /// it was built, are none.
    pub(crate) fn speaks_of(&self, image: &str) -> Result<(), SignatureError> {
        let shape = |error: serde_json::Error| SignatureError::Shape(format!("its payload: {error}"));
        let other = |what: String| SignatureError::Claim(what.chars().take(200).collect());
        match self {
            Self::Simple(payload) => {
                let Simple { critical } = serde_json::from_slice(payload).map_err(shape)?;
                if !SIMPLE_TYPES.contains(&critical.kind.as_str()) {
                    return Err(other(format!("it is a {:?}", critical.kind)));
                }
                if critical.image.digest == image { Ok(()) } else { Err(other(critical.image.digest)) }
            }
            Self::Envelope { payload_type, payload } => {
                if payload_type != STATEMENT {
                    return Err(other(format!("its payload is {payload_type}")));
                }
                let statement: Statement = serde_json::from_slice(payload).map_err(shape)?;
                if statement.kind != IMAGE_SIGNED {
                    return Err(other(format!("it is a statement on {}", statement.kind)));
                }
                let digest = image.split_once(':');
                let same = |subject: &Subject| {
                    digest
                        .is_some_and(|(way, digits)| subject.digest.get(way).is_some_and(|one| one == digits))
                };
                if statement.subject.iter().any(same) {
                    Ok(())
                } else {
                    Err(other("it is on another one".to_owned()))
                }
            }
        }
    }
}
