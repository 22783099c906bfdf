//! Sensors as a user sees them: what is told of which message.

mod cuts;
mod rules;

use std::sync::Arc;

use nv_dpi::content::{Body, Content, Part};
use nv_dpi::event::SessionId;
use nv_dpi::key::{Endpoint, Endpoints, Side, Transport};

use crate::matcher::{Limits, Matcher};
use crate::sensor::{Action, Context, Kind, Pattern, Rule, Sensor};
use crate::set::SensorSet;

/// A pattern, `!` in front where it must not be there.
pub(crate) fn pattern(context: Context, value: &str) -> Pattern {
    let absent = value.strip_prefix('!');
    Pattern { value: absent.unwrap_or(value).to_owned(), absent: absent.is_some(), context, check: None }
}

/// A sensor of rules, by their names.
pub(crate) fn sensor(rules: &[(&str, &[Pattern])]) -> Sensor {
    let rules = (20_000..)
        .zip(rules)
        .map(|(id, (name, patterns))| Rule { name: (*name).to_owned(), id, patterns: patterns.to_vec() })
        .collect();
    Sensor { name: "sensor.test".to_owned(), kind: Kind::Dlp, action: Action::Deny, rules }
}

pub(crate) fn compile(sensors: &[Sensor]) -> Arc<SensorSet> {
    Arc::new(SensorSet::compile(sensors).unwrap())
}

/// Rules that are told of one message, sorted, where its body or packet comes in pieces.
pub(crate) fn told(set: &Arc<SensorSet>, parts: &[Part<'_>], cuts: &[usize]) -> Vec<String> {
    let mut matcher = Matcher::new(Arc::clone(set), Limits::default());
    let mut told = Vec::new();
    let mut cut = cuts.iter().cycle();
    let end = Endpoint { address: std::net::Ipv4Addr::LOCALHOST.into(), port: 80 };
    let endpoints = Endpoints { transport: Transport::Tcp, client: end, server: end };
    let mut say = |part: Part<'_>| {
        let (session, side) = (SessionId(7), Side::Client);
        let content = Content { at: 1, session, endpoints, side, transaction: 0, part };
        matcher.content(&content, &mut |found| told.push(found.rule.to_owned()));
    };
    let mut pieces = |bytes: &[u8], say: &mut dyn FnMut(&[u8])| {
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = cut.next().copied().unwrap_or(usize::MAX).clamp(1, rest.len());
            let (piece, after) = rest.split_at(length);
            say(piece);
            rest = after;
        }
    };
    for part in parts {
        match part {
            Part::Packet(bytes) => pieces(bytes, &mut |piece| say(Part::Packet(piece))),
            Part::Body(about, bytes) => pieces(bytes, &mut |piece| say(Part::Body(*about, piece))),
            other => say(*other),
        }
    }
    say(Part::End);
    assert_eq!(matcher.in_use(), 0);
    told.sort();
    told
}

pub(crate) fn body(bytes: &[u8]) -> Part<'_> {
    Part::Body(Body::default(), bytes)
}
