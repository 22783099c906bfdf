//! What an intruder does in a container. It is linked statically (`make build`), so that it runs in any image.
//!
//! - `write FILE`: makes a file, first of all, and writes into it which file the program is, as `device:inode`. Where the
//!   file is not there afterwards, the program never ran.
//! - `read FILE`, `delete FILE`, `rename FROM TO`, `link FROM TO`: ends with 0 if it could, with 2 if not.
//! - `memfd FILE`: copies itself into memory, runs the copy as `write FILE`.
//! - `in-memory …`: the same, with any arguments.
//! - `repeat COUNT MILLIS PROGRAM …`: runs the program so often, with these pauses and without a shell, and writes how each
//!   went: `y` when it could, `n` when it ran and could not, `x` when it did not run; at last the longest time in milliseconds.
//! - `hang FOLDER`: mounts a file system there that holds a program `x`, and never answers who opens it, nor
//!   who looks for `never`; until it is killed.
//! - `connect HOST:PORT`: opens a TCP connection within 3 seconds; ends with 0 if it could, with 2 if not.
//! - `dial HOST:PORT MILLIS`: sends datagrams and asks for TCP connections, from its first moment on and until it gets
//!   through or the time is over; ends with 0 if it got through, with 2 if not.
//! - `scan HOST FIRST LAST`: tries each of these ports for a moment.
//! - `serve PORT`: answers each TCP connection and each datagram with what it sends, until it is killed.
//! - `talk HOST:PORT COUNT`: sends COUNT numbered lines over one connection to a `serve`, one every 2 ms, and
//!   checks each answer; ends with 0 if none was lost or late by more than 2 seconds.
//! - `exchange HOST:PORT COUNT`: the same with datagrams, each line in one and none sent again.

mod hang;

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket,
};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["write", file] => write(file),
        ["read", file] => fs::read(file).map(drop),
        ["delete", file] => fs::remove_file(file),
        ["rename", from, to] => fs::rename(from, to),
        ["link", from, to] => fs::hard_link(from, to),
        ["memfd", file] => in_memory(&["write", file]),
        ["in-memory", rest @ ..] => in_memory(rest),
        ["hang", folder] => hang::serve(folder),
        ["repeat", count, millis, program, rest @ ..] => repeat(count, millis, program, rest),
        ["connect", target] => connect(target).map(drop),
        ["dial", target, millis] => dial(target, millis),
        ["scan", host, first, last] => scan(host, first, last),
        ["serve", port] => serve(port),
        ["talk", target, count] => talk(target, count),
        ["exchange", target, count] => exchange(target, count),
        _ => Err(io::Error::other(
            "write FILE | read FILE | delete FILE | rename FROM TO | link FROM TO | memfd FILE | in-memory … | repeat COUNT MILLIS PROGRAM … | hang FOLDER | connect HOST:PORT | dial HOST:PORT MILLIS | scan HOST FIRST LAST | serve PORT | talk HOST:PORT COUNT | exchange HOST:PORT COUNT",
        )),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing else can be done when standard error is closed.
            drop(writeln!(io::stderr(), "{error}"));
            ExitCode::from(2)
        }
    }
}

fn write(file: &str) -> io::Result<()> {
    let mut file = File::create(file)?;
    let own = fs::metadata("/proc/self/exe")?;
    write!(file, "{}:{}", own.dev(), own.ino())
}

/// Runs a copy of this program that has no name in any file system.
fn in_memory(arguments: &[&str]) -> io::Result<()> {
    let memory = rustix::fs::memfd_create("nothing", rustix::fs::MemfdFlags::empty())?;
    let mut copy = File::from(memory);
    copy.write_all(&fs::read("/proc/self/exe")?)?;
    Err(Command::new(format!("/proc/self/fd/{}", copy.as_raw_fd())).args(arguments).exec())
}

fn repeat(count: &str, millis: &str, program: &str, arguments: &[&str]) -> io::Result<()> {
    let count: u32 = count.parse().map_err(io::Error::other)?;
    let pause = Duration::from_millis(millis.parse().map_err(io::Error::other)?);
    let (mut went, mut longest) = (String::new(), Duration::ZERO);
    for _ in 0..count {
        let begin = Instant::now();
        let ended = Command::new(program)
            .args(arguments)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status();
        went.push(match ended {
            Ok(status) if status.success() => 'y',
            Ok(status) if status.code().is_some() => 'n',
            // Refused, or killed before its first instruction.
            _ => 'x',
        });
        longest = longest.max(begin.elapsed());
        thread::sleep(pause);
    }
    write!(io::stdout(), "{went} {}", longest.as_millis())
}

fn address(target: &str) -> io::Result<SocketAddr> {
    target.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("no address"))
}

fn connect(target: &str) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&address(target)?, Duration::from_secs(3))
}

/// A socket of an address' family.
fn datagrams(to: &SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    UdpSocket::bind((any, 0))
}

fn dial(target: &str, millis: &str) -> io::Result<()> {
    let (begin, target) = (Instant::now(), address(target)?);
    let length = Duration::from_millis(millis.parse().map_err(io::Error::other)?);
    let socket = datagrams(&target)?;
    loop {
        // Refused or not, the next one may get through.
        drop(socket.send_to(b"first", target));
        match TcpStream::connect_timeout(&target, Duration::from_millis(50)) {
            Ok(_) => return Ok(()),
            Err(error) if begin.elapsed() > length => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn scan(host: &str, first: &str, last: &str) -> io::Result<()> {
    let host: std::net::IpAddr = host.parse().map_err(io::Error::other)?;
    let (first, last): (u16, u16) =
        (first.parse().map_err(io::Error::other)?, last.parse().map_err(io::Error::other)?);
    for port in first..=last {
        // Open or not: that it was asked for is all that counts here.
        drop(TcpStream::connect_timeout(&(host, port).into(), Duration::from_millis(100)));
    }
    Ok(())
}

fn serve(port: &str) -> io::Result<()> {
    let port: u16 = port.parse().map_err(io::Error::other)?;
    let socket = UdpSocket::bind(("::", port))?;
    thread::spawn(move || {
        let mut buffer = [0_u8; 4096];
        while let Ok((count, from)) = socket.recv_from(&mut buffer) {
            if let Some(part) = buffer.get(..count) {
                // Whoever asked and is gone needs no answer.
                drop(socket.send_to(part, from));
            }
        }
    });
    for stream in TcpListener::bind(("::", port))?.incoming() {
        let mut stream = stream?;
        thread::spawn(move || -> io::Result<()> {
            let mut buffer = [0_u8; 4096];
            loop {
                let count = stream.read(&mut buffer)?;
                let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else { return Ok(()) };
                stream.write_all(part)?;
            }
        });
    }
    Ok(())
}

fn talk(target: &str, count: &str) -> io::Result<()> {
    let count: u32 = count.parse().map_err(io::Error::other)?;
    let mut stream = connect(target)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut answers = BufReader::new(stream.try_clone()?);
    let mut answer = String::new();
    for number in 0..count {
        let line = format!("{number}\n");
        stream.write_all(line.as_bytes())?;
        answer.clear();
        answers.read_line(&mut answer)?;
        if answer != line {
            return Err(io::Error::other(format!("line {number} was answered with {answer:?}")));
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn exchange(target: &str, count: &str) -> io::Result<()> {
    let count: u32 = count.parse().map_err(io::Error::other)?;
    let target = address(target)?;
    let socket = datagrams(&target)?;
    socket.connect(target)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut answer = [0_u8; 64];
    for number in 0..count {
        let line = format!("{number}\n");
        socket.send(line.as_bytes())?;
        let length = socket.recv(&mut answer)?;
        if answer.get(..length) != Some(line.as_bytes()) {
            return Err(io::Error::other(format!("datagram {number} was answered with another")));
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
