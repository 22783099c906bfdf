//! What sensors find in a body, a line or a stream does not depend on where it was cut.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use nv_dpi::content::{Body, BodyKind, Coding, Content, Part};
use nv_dpi::event::SessionId;
use nv_dpi::key::{Endpoint, Endpoints, Side, Transport};
use nv_sensor::matcher::{Limits, Matcher};
use nv_sensor::predefined;
use nv_sensor::sensor::{Action, Context, Kind, Pattern, Rule, Sensor};
use nv_sensor::set::SensorSet;

static SET: LazyLock<Arc<SensorSet>> = LazyLock::new(|| {
    let values =
        ["secret", "(?i)top.{0,9}level", "[0-9]{6,9}", "[^ab]{3}d[^cd]", r"<\?", r"\$\{jn", "(?m)^abc$"];
    let pattern = |value: &str| Pattern {
        value: value.to_owned(),
        absent: false,
        context: Context::Packet,
        check: None,
    };
    let rules = (20_000..)
        .zip(values)
        .map(|(id, value)| Rule { name: value.to_owned(), id, patterns: vec![pattern(value)] })
        .collect();
    let mut sensors = predefined::sensors();
    sensors.push(Sensor { name: "sensor.fuzz".to_owned(), kind: Kind::Dlp, action: Action::Deny, rules });
    Arc::new(SensorSet::compile(&sensors).expect("the sensors compile"))
});

fn told(part: &dyn Fn(&[u8], &mut dyn FnMut(Part<'_>)), bytes: &[u8], cut: usize) -> Vec<u32> {
    let mut matcher = Matcher::new(Arc::clone(&SET), Limits::default());
    let mut told = Vec::new();
    let end = Endpoint { address: [192, 0, 2, 1].into(), port: 80 };
    let endpoints = Endpoints { transport: Transport::Tcp, client: end, server: end };
    let mut say = |part: Part<'_>| {
        let content =
            Content { at: 1, session: SessionId(7), endpoints, side: Side::Client, transaction: 0, part };
        matcher.content(&content, &mut |found| told.push(found.id));
    };
    for piece in bytes.chunks(cut) {
        part(piece, &mut say);
    }
    say(Part::End);
    assert_eq!(matcher.in_use(), 0);
    told.sort_unstable();
    told
}

fuzz_target!(|bytes: &[u8]| {
    let [how, cut, bytes @ ..] = bytes else { return };
    let about = match how % 5 {
        0 => None,
        1 => Some(Body { coding: None, kind: BodyKind::Text }),
        2 => Some(Body { coding: None, kind: BodyKind::Form }),
        3 => Some(Body { coding: Some(Coding::Deflate), kind: BodyKind::Text }),
        _ => Some(Body { coding: Some(Coding::Gzip), kind: BodyKind::Grpc }),
    };
    let part = |piece: &[u8], say: &mut dyn FnMut(Part<'_>)| match about {
        Some(about) => say(Part::Body(about, piece)),
        None => say(Part::Packet(piece)),
    };
    let whole = told(&part, bytes, usize::MAX);
    // Of a body that is not compressed as it says, what is looked at depends on where that shows.
    if how % 5 < 3 {
        assert_eq!(told(&part, bytes, usize::from(*cut) + 1), whole);
    } else {
        told(&part, bytes, usize::from(*cut) + 1);
    }
});
