//! One ICMP echo (RFC 792, RFC 4443): sent, and waited for.

use std::{
    io::{self, Read as _},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::forbidden;

/// What the answer must carry back.
const TOKEN: usize = 16;
/// Echo request and echo reply, for IPv4 and IPv6.
const KINDS4: (u8, u8) = (8, 0);
const KINDS6: (u8, u8) = (128, 129);

/// Sends one echo and waits for its answer.
///
/// # Errors
/// No socket, no way there, or no answer in time.
pub(super) async fn echo(to: IpAddr, limit: Duration) -> io::Result<()> {
    // A ping socket has no tokio type of its own, and a probe is rare: a thread that waits is the simplest.
    tokio::task::spawn_blocking(move || blocking(to, limit)).await.map_err(io::Error::other)?
}

fn blocking(to: IpAddr, limit: Duration) -> io::Result<()> {
    let until = Instant::now() + limit;
    let (socket, has_ip_header) = open(to)?;
    let mut token = [0; TOKEN];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut token)?;
    socket.connect(&SocketAddr::new(to, 0).into())?;
    socket.send(&request(to, &token))?;
    let mut buffer = [0; 2_048];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{to} does not answer an echo")));
        }
        socket.set_read_timeout(Some(left))?;
        match (&socket).read(&mut buffer) {
            Ok(length) if answers(to, &buffer[..length], has_ip_header, &token) => return Ok(()),
            Ok(_) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(e) => return Err(e),
        }
    }
}

/// A ping socket where this user may have one, else a raw one; raw IPv4 sockets give the IP header too.
fn open(to: IpAddr) -> io::Result<(Socket, bool)> {
    let (domain, protocol) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    match Socket::new(domain, Type::DGRAM, Some(protocol)) {
        Ok(socket) => Ok((socket, false)),
        Err(_) => {
            let raw = Socket::new(domain, Type::RAW, Some(protocol)).map_err(|e| forbidden(&e))?;
            Ok((raw, to.is_ipv4()))
        }
    }
}

fn request(to: IpAddr, token: &[u8; TOKEN]) -> Vec<u8> {
    let kind = if to.is_ipv4() { KINDS4.0 } else { KINDS6.0 };
    // Identifier and sequence: the kernel gives a ping socket an identifier of its own.
    let mut packet = vec![kind, 0, 0, 0, token[0], token[1], 0, 1];
    packet.extend_from_slice(token);
    if to.is_ipv4() {
        let [high, low] = checksum(&packet).to_be_bytes();
        (packet[2], packet[3]) = (high, low);
    }
    packet
}

fn answers(to: IpAddr, packet: &[u8], has_ip_header: bool, token: &[u8; TOKEN]) -> bool {
    let header = match (has_ip_header, packet.first()) {
        (true, Some(first)) => usize::from(first & 0x0f) * 4,
        _ => 0,
    };
    let kind = if to.is_ipv4() { KINDS4.1 } else { KINDS6.1 };
    packet.get(header..).is_some_and(|icmp| icmp.first() == Some(&kind) && icmp.get(8..) == Some(&token[..]))
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    let sum: u32 = words.map(u32::from).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_host_answers_and_nobody_else_for_it() {
        let here = echo("127.0.0.1".parse().unwrap(), Duration::from_secs(2)).await;
        match here {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                eprintln!("SKIPPED this_host_answers_and_nobody_else_for_it: {error}");
            }
            answered => answered.unwrap(),
        }
    }

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let to: IpAddr = "192.0.2.1".parse().unwrap();
        let token = [7; TOKEN];
        let mut reply = request(to, &token);
        assert!(!answers(to, &reply, false, &token), "a request is no answer");
        reply[0] = 0;
        assert!(answers(to, &reply, false, &token));
        assert!(!answers(to, &reply, false, &[8; TOKEN]), "somebody else's");
        let mut raw = vec![0x45; 20];
        raw.extend_from_slice(&reply);
        assert!(answers(to, &raw, true, &token));
        for length in 0..raw.len() {
            assert!(!answers(to, &raw[..length], true, &token), "cut at {length}");
        }
    }

    #[test]
    fn the_checksum_is_that_of_rfc_1071() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        let packet = request("192.0.2.1".parse().unwrap(), &[3; TOKEN]);
        assert_eq!(checksum(&packet), 0, "a packet with its checksum sums to nothing");
    }
}
