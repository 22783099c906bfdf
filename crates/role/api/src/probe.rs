//! Reads single values off anything that can be serialised, without building its JSON.

use std::cmp::Ordering;

use serde::ser::{Impossible, Serialize, SerializeMap, SerializeStruct, Serializer};

use crate::query::Op;

/// A value that can be filtered and sorted by. Unsigned numbers cannot: the contract leaves them out.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// A truth value.
    Bool(bool),
    /// A signed number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text.
    Text(String),
}

impl Eq for Scalar {}
impl PartialOrd for Scalar {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scalar {
    fn cmp(&self, other: &Self) -> Ordering {
        const fn rank(scalar: &Scalar) -> u8 {
            match scalar {
                Scalar::Bool(_) => 0,
                Scalar::Int(_) => 1,
                Scalar::Float(_) => 2,
                Scalar::Text(_) => 3,
            }
        }
        match (self, other) {
            (Self::Bool(one), Self::Bool(other)) => one.cmp(other),
            (Self::Int(one), Self::Int(other)) => one.cmp(other),
            (Self::Float(one), Self::Float(other)) => one.total_cmp(other),
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            _ => rank(self).cmp(&rank(other)),
        }
    }
}

fn compare<T: PartialOrd>(op: Op, one: &T, other: &T) -> bool {
    match op {
        Op::Eq | Op::In | Op::Prefix => one == other,
        Op::Neq | Op::NotIn => one != other,
        Op::Gt => one > other,
        Op::Gte => one >= other,
        Op::Lt => one < other,
        Op::Lte => one <= other,
    }
}

impl Scalar {
    /// Whether the value stands in `op` to `given`. A text that is no number or truth value equals none.
    #[must_use]
    pub fn satisfies(&self, op: Op, given: &str) -> bool {
        let unreadable = matches!(op, Op::Neq | Op::NotIn);
        match self {
            Self::Text(text) => match op {
                Op::In => given.split('|').any(|part| text.contains(part)),
                Op::NotIn => !given.split('|').any(|part| text.contains(part)),
                Op::Prefix => text.starts_with(given),
                Op::Eq | Op::Neq | Op::Gt | Op::Gte | Op::Lt | Op::Lte => compare(op, &text.as_str(), &given),
            },
            Self::Int(number) => given.parse().map_or(unreadable, |given: i64| compare(op, number, &given)),
            Self::Float(number) => given.parse().map_or(unreadable, |given: f64| compare(op, number, &given)),
            Self::Bool(switch) => match given {
                "true" | "True" | "TRUE" | "1" | "t" | "T" => compare(op, switch, &true),
                "false" | "False" | "FALSE" | "0" | "f" | "F" => compare(op, switch, &false),
                _ => unreadable,
            },
        }
    }
}

/// Serialises one object and keeps the wanted keys of its top level.
pub struct Probe<'a> {
    keys: &'a [&'a str],
    found: Vec<Option<Scalar>>,
    key: Option<usize>,
}

/// Nothing can go wrong: what does not fit is left out.
#[derive(Debug)]
pub struct Never;
impl std::fmt::Display for Never {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("value is not an object")
    }
}
impl std::error::Error for Never {}
impl serde::ser::Error for Never {
    fn custom<T: std::fmt::Display>(_message: T) -> Self {
        Self
    }
}

impl<'a> Probe<'a> {
    /// The values of `keys` in `item`, in their order; `None` for what is not there or cannot be compared.
    pub fn read<T: Serialize>(keys: &'a [&'a str], item: &T) -> Vec<Option<Scalar>> {
        let mut probe = Probe { keys, found: vec![None; keys.len()], key: None };
        // An item that is no object has no keys, so nothing is found.
        drop(item.serialize(&mut probe));
        probe.found
    }
    fn keep<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) {
        if self.keys.contains(&key)
            && let Ok(value) = value.serialize(ScalarSerializer)
        {
            for (slot, _) in self.found.iter_mut().zip(self.keys).filter(|(_, wanted)| **wanted == key) {
                slot.clone_from(&value);
            }
        }
    }
}

macro_rules! refuse {
    ($($method:ident($($type:ty),*)),* $(,)?) => {
        $(fn $method(self, $(_: $type),*) -> Result<Self::Ok, Never> { Err(Never) })*
    };
}

macro_rules! refuse_compound {
    () => {
        fn serialize_newtype_variant<T: Serialize + ?Sized>(
            self,
            _name: &'static str,
            _index: u32,
            _variant: &'static str,
            _value: &T,
        ) -> Result<Self::Ok, Never> {
            Err(Never)
        }
        fn serialize_seq(self, _len: Option<usize>) -> Result<Self::SerializeSeq, Never> {
            Err(Never)
        }
        fn serialize_tuple(self, _len: usize) -> Result<Self::SerializeTuple, Never> {
            Err(Never)
        }
        fn serialize_tuple_struct(
            self,
            _name: &'static str,
            _len: usize,
        ) -> Result<Self::SerializeTupleStruct, Never> {
            Err(Never)
        }
        fn serialize_tuple_variant(
            self,
            _name: &'static str,
            _index: u32,
            _variant: &'static str,
            _len: usize,
        ) -> Result<Self::SerializeTupleVariant, Never> {
            Err(Never)
        }
        fn serialize_struct_variant(
            self,
            _name: &'static str,
            _index: u32,
            _variant: &'static str,
            _len: usize,
        ) -> Result<Self::SerializeStructVariant, Never> {
            Err(Never)
        }
    };
}

impl SerializeStruct for &mut Probe<'_> {
    type Ok = ();
    type Error = Never;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Never> {
        self.keep(key, value);
        Ok(())
    }
    fn end(self) -> Result<(), Never> {
        Ok(())
    }
}

impl SerializeMap for &mut Probe<'_> {
    type Ok = ();
    type Error = Never;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Never> {
        self.key = match key.serialize(ScalarSerializer) {
            Ok(Some(Scalar::Text(text))) => self.keys.iter().position(|wanted| *wanted == text),
            _ => None,
        };
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Never> {
        if let Some(key) = self.key.take().and_then(|at| self.keys.get(at)) {
            self.keep(key, value);
        }
        Ok(())
    }
    fn end(self) -> Result<(), Never> {
        Ok(())
    }
}

impl Serializer for &mut Probe<'_> {
    type Ok = ();
    type Error = Never;
    type SerializeSeq = Impossible<(), Never>;
    type SerializeTuple = Impossible<(), Never>;
    type SerializeTupleStruct = Impossible<(), Never>;
    type SerializeTupleVariant = Impossible<(), Never>;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Impossible<(), Never>;

    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Self, Never> {
        Ok(self)
    }
    fn serialize_map(self, _len: Option<usize>) -> Result<Self, Never> {
        Ok(self)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Never> {
        value.serialize(self)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), Never> {
        value.serialize(self)
    }

    refuse! {
        serialize_bool(bool), serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64),
        serialize_u8(u8), serialize_u16(u16), serialize_u32(u32), serialize_u64(u64), serialize_f32(f32),
        serialize_f64(f64), serialize_char(char), serialize_str(&str), serialize_bytes(&[u8]), serialize_none(),
        serialize_unit(), serialize_unit_struct(&'static str),
        serialize_unit_variant(&'static str, u32, &'static str),
    }
    refuse_compound!();
}

/// Takes one scalar; lists, maps and unsigned numbers give nothing.
struct ScalarSerializer;

impl Serializer for ScalarSerializer {
    type Ok = Option<Scalar>;
    type Error = Never;
    type SerializeSeq = Impossible<Self::Ok, Never>;
    type SerializeTuple = Impossible<Self::Ok, Never>;
    type SerializeTupleStruct = Impossible<Self::Ok, Never>;
    type SerializeTupleVariant = Impossible<Self::Ok, Never>;
    type SerializeMap = Impossible<Self::Ok, Never>;
    type SerializeStruct = Impossible<Self::Ok, Never>;
    type SerializeStructVariant = Impossible<Self::Ok, Never>;

    fn serialize_bool(self, value: bool) -> Result<Self::Ok, Never> {
        Ok(Some(Scalar::Bool(value)))
    }
    fn serialize_i8(self, value: i8) -> Result<Self::Ok, Never> {
        self.serialize_i64(value.into())
    }
    fn serialize_i16(self, value: i16) -> Result<Self::Ok, Never> {
        self.serialize_i64(value.into())
    }
    fn serialize_i32(self, value: i32) -> Result<Self::Ok, Never> {
        self.serialize_i64(value.into())
    }
    fn serialize_i64(self, value: i64) -> Result<Self::Ok, Never> {
        Ok(Some(Scalar::Int(value)))
    }
    fn serialize_f32(self, value: f32) -> Result<Self::Ok, Never> {
        self.serialize_f64(value.into())
    }
    fn serialize_f64(self, value: f64) -> Result<Self::Ok, Never> {
        Ok(Some(Scalar::Float(value)))
    }
    fn serialize_str(self, value: &str) -> Result<Self::Ok, Never> {
        Ok(Some(Scalar::Text(value.to_owned())))
    }
    fn serialize_char(self, value: char) -> Result<Self::Ok, Never> {
        Ok(Some(Scalar::Text(value.to_string())))
    }
    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<Self::Ok, Never> {
        self.serialize_str(variant)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Self::Ok, Never> {
        value.serialize(self)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<Self::Ok, Never> {
        value.serialize(self)
    }
    fn serialize_map(self, _len: Option<usize>) -> Result<Self::SerializeMap, Never> {
        Err(Never)
    }
    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Self::SerializeStruct, Never> {
        Err(Never)
    }

    refuse! {
        serialize_u8(u8), serialize_u16(u16), serialize_u32(u32), serialize_u64(u64), serialize_bytes(&[u8]),
        serialize_none(), serialize_unit(), serialize_unit_struct(&'static str),
    }
    refuse_compound!();
}
