//! Reads JSON the way the contract's clients expect it to be read: keys match whatever their case, unknown keys are
//! ignored, `null` is the same as an absent key. Everything else is strict, and an error names the place.

use serde::de::value::{MapDeserializer, SeqDeserializer, StringDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value};

use crate::error::ApiError;

/// Reads a request's body. Depth is bounded by the JSON parser (128), size by the server.
///
/// # Errors
/// Code 6 with what is wrong and where.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(ApiError::format("the request has no body, a JSON object was expected"));
    }
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| ApiError::format(format!("the body is not JSON: {error}")))?;
    T::deserialize(Lenient(value))
        .map_err(|error| ApiError::format(format!("the body does not fit: {error}")))
}

/// A value whose objects match keys in any case.
struct Lenient(Value);

impl<'de> IntoDeserializer<'de, Error> for Lenient {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Lenient {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Lenient))),
            Value::Object(fields) => {
                visitor.visit_map(MapDeserializer::new(fields.into_iter().map(|(k, v)| (k, Lenient(v)))))
            }
            scalar => scalar.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(object) => {
                let mut found: Vec<(&'static str, Value)> =
                    Vec::with_capacity(object.len().min(fields.len()));
                for (key, value) in object {
                    let exact = fields.iter().find(|field| **field == key);
                    let field =
                        exact.or_else(|| fields.iter().find(|field| field.eq_ignore_ascii_case(&key)));
                    let Some(field) = field else { continue };
                    if value.is_null() {
                        continue;
                    }
                    match found.iter_mut().find(|(known, _)| known == field) {
                        // The same key twice in different spellings: the exact one counts.
                        Some((_, held)) if exact.is_some() => *held = value,
                        Some(_) => {}
                        None => found.push((field, value)),
                    }
                }
                visitor.visit_map(Fields { rest: found.into_iter(), value: None })
            }
            _ => Err(serde::de::Error::custom("expected an object")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map identifier ignored_any
    }
}

/// The fields of one object; an error says in which one it happened.
struct Fields {
    rest: std::vec::IntoIter<(&'static str, Value)>,
    value: Option<(&'static str, Value)>,
}

impl<'de> MapAccess<'de> for Fields {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some((key, value));
        seed.deserialize(StringDeserializer::<Error>::new(key.to_owned())).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let (key, value) = self.value.take().unwrap_or(("", Value::Null));
        seed.deserialize(Lenient(value)).map_err(|error| serde::de::Error::custom(format!("{key}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Inner {
        value: u32,
        names: Option<Vec<String>>,
    }
    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Outer {
        name: String,
        config: Inner,
        list: Vec<Inner>,
        by_name: BTreeMap<String, Vec<String>>,
        switch: Option<bool>,
    }

    #[test]
    fn keys_match_in_any_case_and_unknown_ones_are_ignored() {
        let got: Outer = decode(
            br#"{"NAME":"a","Config":{"VALUE":7,"other":[{}],"Names":["x"]},"list":[{"Value":1}],"extra":1,"by_name":{"Ab":["c"]}}"#,
        )
        .unwrap();
        assert_eq!(got.name, "a");
        assert_eq!(got.config, Inner { value: 7, names: Some(vec!["x".into()]) });
        assert_eq!(got.list[0].value, 1);
        assert_eq!(got.by_name["Ab"], ["c"], "keys of a map are data");
    }

    #[test]
    fn null_is_the_same_as_absent_and_an_empty_list_is_not() {
        let got: Outer =
            decode(br#"{"name":null,"config":{"names":null},"list":null,"switch":null}"#).unwrap();
        assert_eq!(got, Outer::default());
        let got: Outer = decode(br#"{"config":{"names":[]}}"#).unwrap();
        assert_eq!(got.config.names, Some(vec![]));
    }

    #[test]
    fn the_exact_spelling_wins_over_another_one() {
        let got: Outer = decode(br#"{"name":"exact","NAME":"other"}"#).unwrap();
        assert_eq!(got.name, "exact");
        let got: Outer = decode(br#"{"NAME":"other","name":"exact"}"#).unwrap();
        assert_eq!(got.name, "exact");
    }

    #[test]
    fn an_error_names_the_place() {
        let error = |body: &[u8]| format!("{:?}", decode::<Outer>(body).unwrap_err());
        assert!(
            error(br#"{"config":{"value":"x"}}"#).contains("config: value: "),
            "{}",
            error(br#"{"config":{"value":"x"}}"#)
        );
        assert!(error(br#"{"name":1}"#).contains("name: "));
        assert!(error(b"{").contains("not JSON"));
        assert!(error(b"  ").contains("no body"));
        assert!(error(b"[]").contains("does not fit"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_without_panic(body in proptest::collection::vec(any::<u8>(), 0..256)) {
            drop(decode::<Outer>(&body));
        }
        #[test]
        fn any_json_is_answered_without_panic(text in r#"(\{|\}|\[|\]|"name"|"config"|:|,|null|1|true|"x"){0,24}"#) {
            drop(decode::<Outer>(text.as_bytes()));
        }
    }

    #[test]
    fn nesting_without_end_is_refused() {
        let deep = "[".repeat(100_000);
        assert!(decode::<Outer>(deep.as_bytes()).is_err());
    }
}
