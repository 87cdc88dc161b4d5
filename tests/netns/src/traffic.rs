//! Traffic as programs make it: request and response over TCP, datagrams and their echoes, refused connections.
//!
//! The programs are processes (`weir-traffic`), because a control group, by which an agent sees TCP's health, holds
//! processes.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::{Host, Process, built};

/// Port of the request and response service: the lab's database.
pub const TCP_PORT: u16 = 5432;
/// Port of the echo service for datagrams.
pub const UDP_PORT: u16 = 8472;
/// Nothing listens here.
pub const CLOSED_PORT: u16 = 81;

const LIMIT: Duration = Duration::from_secs(5);
/// The longest answer that may be asked for.
const LONGEST: u32 = 1 << 24;

/// Serve on all the addresses: over TCP a request is a length (4 bytes, network order) and the answer that many bytes;
/// over UDP a datagram comes back. `ready` runs once everything listens. Returns only on an error.
pub fn serve(addresses: &[IpAddr], ready: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut threads = Vec::new();
    for address in addresses {
        let tcp = TcpListener::bind((*address, TCP_PORT)).with_context(|| format!("listen on {address}"))?;
        let udp = UdpSocket::bind((*address, UDP_PORT)).with_context(|| format!("bind {address}"))?;
        threads.push(std::thread::spawn(move || accept(&tcp)));
        threads.push(std::thread::spawn(move || echo(&udp)));
    }
    ready()?;
    threads.into_iter().filter_map(|thread| thread.join().ok()).collect::<io::Result<()>>().context("serve")
}

fn accept(listener: &TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept()?;
        std::thread::spawn(move || answer(stream));
    }
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut request = [0; 4];
    loop {
        stream.read_exact(&mut request)?;
        let length = u32::from_be_bytes(request).min(LONGEST);
        stream.write_all(&vec![b'w'; length as usize])?;
    }
}

fn echo(socket: &UdpSocket) -> io::Result<()> {
    let mut datagram = [0; 65_536];
    loop {
        // An ICMP error for an earlier datagram is reported here; the next call is fine again.
        if let Ok((length, from)) = socket.recv_from(&mut datagram) {
            socket.send_to(&datagram[..length], from).ok();
        }
    }
}

/// Start `weir-traffic serve` on a host, and wait until it listens.
pub fn start_server(host: &Host, addresses: &[&str]) -> Result<Process> {
    let mut command = host.command(built("weir-traffic")?);
    command.arg("serve").args(addresses.iter().flat_map(|address| ["--address", *address]));
    let mut process = host.start(command.stdout(Stdio::piped()))?;
    let mut line = String::new();
    BufReader::new(process.child().stdout.take().context("the server has no stdout")?)
        .read_line(&mut line)?;
    ensure!(line == "ready\n", "a server did not start; it said {line:?}");
    Ok(process)
}

/// What a client did, by its own count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// TCP connections that were answered.
    pub connections: u64,
    /// Bytes that were answered.
    pub answered_bytes: u64,
    /// TCP connections that were refused.
    pub refused: u64,
    /// TCP connections that failed in another way.
    pub failed: u64,
    /// Datagrams sent.
    pub datagrams: u64,
    /// Datagrams that came back.
    pub echoes: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.answered_bytes += other.answered_bytes;
        self.refused += other.refused;
        self.failed += other.failed;
        self.datagrams += other.datagrams;
        self.echoes += other.echoes;
    }
}

/// One round of everything against one address. `number` varies ports and sizes from round to round.
pub fn round(address: IpAddr, number: u64) -> Tally {
    let mut tally = Tally::default();
    let length = [200, 4_000, 60_000, 500_000][(number % 4) as usize];
    match request(SocketAddr::new(address, TCP_PORT), &[length, 100]) {
        Ok(bytes) => {
            tally.connections += 1;
            tally.answered_bytes += bytes;
        }
        Err(_) => tally.failed += 1,
    }
    datagrams(SocketAddr::new(address, UDP_PORT), 20, &mut tally).ok();
    if number.is_multiple_of(8) {
        match TcpStream::connect_timeout(&SocketAddr::new(address, CLOSED_PORT), LIMIT) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => tally.refused += 1,
            _ => tally.failed += 1,
        }
        // Nobody takes this one: the node's kernel drops it and says why.
        tally.datagrams += u64::from(send_one(SocketAddr::new(address, CLOSED_PORT)).is_ok());
    }
    tally
}

/// Ask for answers of these lengths on one connection, and return the bytes that came.
///
/// # Errors
///
/// Of the socket; [`ErrorKind::UnexpectedEof`] where the server ends before its answer does.
pub fn request(server: SocketAddr, lengths: &[u32]) -> io::Result<u64> {
    let mut stream = TcpStream::connect_timeout(&server, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut total = 0;
    for length in lengths {
        stream.write_all(&length.to_be_bytes())?;
        let came = io::copy(&mut (&mut stream).take(u64::from(*length)), &mut io::sink())?;
        if came < u64::from(*length) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        total += came;
    }
    Ok(total)
}

/// Send `count` datagrams and take what comes back.
fn datagrams(server: SocketAddr, count: u64, tally: &mut Tally) -> io::Result<()> {
    let socket = connected(server)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let mut buffer = [0; 2048];
    for number in 0..count {
        socket.send(&buffer[..64 + 40 * number as usize])?;
        tally.datagrams += 1;
        tally.echoes += u64::from(socket.recv(&mut buffer).is_ok());
    }
    Ok(())
}

fn send_one(server: SocketAddr) -> io::Result<usize> {
    connected(server)?.send(b"nobody is there")
}

fn connected(server: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((if server.is_ipv4() { "0.0.0.0" } else { "::" }, 0))?;
    socket.connect(server)?;
    Ok(socket)
}
