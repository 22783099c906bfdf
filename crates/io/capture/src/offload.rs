//! What an interface cuts into packets by itself (ethtool(8), `linux/ethtool.h`).
#![expect(unsafe_code, reason = "asks the kernel by ioctl")]

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETH_SS_FEATURES: u32 = 4;
const NAME: usize = 32;
/// More features than there are; the kernel says how many.
const MAX_FEATURES: usize = 128;
/// Words of a set of features (`ETHTOOL_DEV_FEATURE_WORDS`): 64 features.
const WORDS: usize = 2;

/// What packets are named in that are several in one.
const CUTS: &str = "-segmentation";
/// Those of TCP, which a packet(7) socket can tell of.
const TCP: &str = "tx-tcp";

#[repr(C)]
struct Strings {
    command: u32,
    set: u32,
    count: u32,
    names: [[u8; NAME]; MAX_FEATURES],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Wish {
    /// Features that something is said of.
    valid: u32,
    requested: u32,
}

#[repr(C)]
struct Features {
    command: u32,
    count: u32,
    words: [Wish; WORDS],
}

/// Has the kernel cut everything but TCP into packets before it comes to an interface: of datagrams in one, and of tunnels, a
/// packet(7) socket could not say what they are (of datagrams it can since Linux 6.2).
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn cut_all_but_tcp(interface: &str) -> io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut strings = Strings {
        command: ETHTOOL_GSTRINGS,
        set: ETH_SS_FEATURES,
        count: 0,
        names: [[0; NAME]; MAX_FEATURES],
    };
    ask(&socket, interface, &mut strings)?;
    let mut features =
        Features { command: ETHTOOL_SFEATURES, count: WORDS as u32, words: [Wish::default(); WORDS] };
    for (at, name) in strings.names.iter().enumerate() {
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let name = String::from_utf8_lossy(name);
        if name.ends_with(CUTS)
            && !name.starts_with(TCP)
            && let Some(word) = features.words.get_mut(at / 32)
        {
            word.valid |= 1 << (at % 32);
        }
    }
    ask(&socket, interface, &mut features)
}

fn ask<T>(socket: &OwnedFd, interface: &str, request: &mut T) -> io::Result<()> {
    let mut name = [0; libc::IFNAMSIZ];
    for (into, from) in name.iter_mut().take(libc::IFNAMSIZ - 1).zip(interface.bytes()) {
        *into = from.cast_signed();
    }
    let mut wanted = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: std::ptr::from_mut(request).cast() },
    };
    // SAFETY: the kernel writes no more into the request than its kind has: of names 32 bytes a feature, of which there is
    // room for twice as many as a set has bits.
    let code = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut wanted) };
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
