//! What benches of inspection are fed with. Other crates' benches read it by its path.

use std::path::Path;

use nv_packet::capture_file::CaptureFile;
use nv_packet::link::Link;

pub(crate) const SECOND: u64 = 1_000_000_000;

/// Frames in the order of their time, in one block of memory.
#[derive(Default)]
pub(crate) struct Load {
    pub(crate) bytes: Vec<u8>,
    /// When, where in `bytes`, how many.
    pub(crate) frames: Vec<(u64, usize, usize)>,
}

impl Load {
    pub(crate) fn push(&mut self, at: u64, frame: &[u8]) {
        self.frames.push((at, self.bytes.len(), frame.len()));
        self.bytes.extend_from_slice(frame);
    }
    pub(crate) fn frame(&self, start: usize, length: usize) -> &[u8] {
        &self.bytes[start..start + length]
    }
}

/// 64 connections at a time that fetch JSON of `size` bytes, again and again, up to `most` bytes.
pub(crate) fn bodies(size: usize, most: usize) -> Load {
    let mut load = Load::default();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n");
    let body: Vec<u8> = (0..size).map(|at| b"{\"id\":12345,\"name\":\"abcdef\"},"[at % 29]).collect();
    let answer = [head.as_bytes(), &body].concat();
    let mut sequences = [(1_u32, 1_u32); 64];
    let mut now = SECOND;
    for port in 0..64_u16 {
        for (to_server, flags) in [(true, 2), (false, 0x12), (true, 0x10)] {
            now += 1000;
            let numbers = if flags & 2 != 0 { (0, u32::from(flags == 0x12)) } else { (1, 1) };
            load.push(now, &segment(port, to_server, flags, numbers, b""));
        }
    }
    let mut turn = 0_usize;
    while load.bytes.len() < most {
        turn += 1;
        for port in 0..64_u16 {
            let (client, server) = sequences[usize::from(port)];
            let request =
                format!("GET /item/{turn} HTTP/1.1\r\nHost: api.example\r\nUser-Agent: bench/1\r\n\r\n");
            load.push(now, &segment(port, true, 0x18, (client, server), request.as_bytes()));
            let client = client.wrapping_add(u32::try_from(request.len()).unwrap());
            let mut next = server;
            for part in answer.chunks(1460) {
                now += 1000;
                load.push(now, &segment(port, false, 0x10, (next, client), part));
                next = next.wrapping_add(u32::try_from(part.len()).unwrap());
            }
            load.push(now, &segment(port, true, 0x10, (client, next), b""));
            sequences[usize::from(port)] = (client, next);
        }
    }
    load
}

/// An Ethernet frame between 10.0.0.1:10000+`port` and 10.0.0.2:80.
pub(crate) fn segment(
    port: u16,
    to_server: bool,
    flags: u8,
    (sequence, acknowledged): (u32, u32),
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
    frame.extend(u16::try_from(payload.len() + 40).unwrap().to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    let (client, server) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let (from, to) = if to_server { (client, server) } else { (server, client) };
    let (source, destination) = if to_server { (10_000 + port, 80) } else { (80, 10_000 + port) };
    frame.extend(from);
    frame.extend(to);
    frame.extend(source.to_be_bytes());
    frame.extend(destination.to_be_bytes());
    frame.extend(sequence.to_be_bytes());
    frame.extend(acknowledged.to_be_bytes());
    frame.extend([0x50, flags, 0xFF, 0xFF, 0, 0, 0, 0]);
    frame.extend(payload);
    frame
}

/// All captures of a folder, interleaved over a minute, each as often as it takes, with other IPv4 addresses each time.
pub(crate) fn mixed(folder: &Path, most: usize) -> Load {
    let mut found: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let Ok(bytes) = std::fs::read(&path) else { continue };
            let Ok(mut capture) = CaptureFile::open(&bytes) else { continue };
            let mut first = None;
            while let Ok(Some(record)) = capture.read() {
                if record.link == Some(Link::Ethernet) && record.frame.len() <= 65_536 {
                    let start = *first.get_or_insert(record.at);
                    found.push((record.at.saturating_sub(start) % (60 * SECOND), record.frame.to_vec()));
                }
            }
        }
    }
    // A stable sort keeps the order of a flow.
    found.sort_by_key(|(at, _)| *at);
    let bytes: usize = found.iter().map(|(_, frame)| frame.len()).sum();
    let copies = most.div_ceil(bytes.max(1));
    let mut load = Load::default();
    for (at, frame) in &mut found {
        for copy in 0..copies {
            if let Some(ip) = frame.get_mut(14..34).filter(|_| copy > 0)
                && ip[0] >> 4 == 4
            {
                // The second byte of both addresses.
                ip[13] = ip[13].wrapping_add(1);
                ip[17] = ip[17].wrapping_add(1);
            }
            load.push(SECOND + *at, frame);
        }
    }
    load
}
