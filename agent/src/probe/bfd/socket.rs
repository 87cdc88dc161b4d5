//! The sockets of BFD. Those that receive are bound without sharing: another program's socket on the port is an error.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::model::bfd::{ECHO_PORT, Endpoint, MULTIHOP_PORT, PORT, TTL};

/// Room for what waits while this thread does not run; a flood fills it sooner or later.
const BUFFER: usize = 1 << 20;

/// `CS6`, as routers mark their own protocols.
const CLASS: u32 = 0xc0;

/// What arrived beside the packet itself.
#[derive(Debug, Default)]
pub(super) struct Envelope {
    pub(super) length: usize,
    pub(super) from: Option<SocketAddr>,
    pub(super) to: Option<IpAddr>,
    pub(super) interface: u32,
    pub(super) ttl: Option<u8>,
    /// When the kernel received it, by the real-time clock.
    pub(super) stamp: Option<Duration>,
    /// How many packets found no room in this socket so far.
    pub(super) overflown: Option<u32>,
    /// Whether this host sent it; packet sockets only.
    pub(super) outgoing: bool,
}

/// A socket that receives on a port, for one address family.
pub(super) fn receiver(domain: Domain, port: u16) -> io::Result<OwnedFd> {
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    let address: IpAddr = if domain == Domain::IPV4 {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        socket.set_only_v6(true)?;
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
        Ipv6Addr::UNSPECIFIED.into()
    };
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    setsockopt(&socket, sockopt::RxqOvfl, &1)?;
    // Beyond the administrator's bound where this process may go there; else up to it.
    if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).is_err() {
        socket.set_recv_buffer_size(BUFFER)?;
    }
    if port == ECHO_PORT {
        // What is sent back shows that it has been here.
        match domain {
            Domain::IPV4 => socket.set_ttl_v4(u32::from(TTL) - 1)?,
            _ => socket.set_unicast_hops_v6(u32::from(TTL) - 1)?,
        }
    }
    socket.bind(&SocketAddr::new(address, port).into())?;
    Ok(socket.into())
}

/// A socket that sends a session's packets.
pub(super) fn sender(endpoint: &Endpoint) -> io::Result<OwnedFd> {
    let domain = Domain::for_address(endpoint.peer);
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    let any: IpAddr = if domain == Domain::IPV4 {
        socket.set_ttl_v4(TTL.into())?;
        socket.set_tos_v4(CLASS)?;
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        socket.set_only_v6(true)?;
        socket.set_unicast_hops_v6(TTL.into())?;
        socket.set_tclass_v6(CLASS)?;
        Ipv6Addr::UNSPECIFIED.into()
    };
    if let Some(index) = endpoint.interface.and_then(std::num::NonZeroU32::new) {
        match domain {
            Domain::IPV4 => socket.bind_device_by_index_v4(Some(index))?,
            _ => socket.bind_device_by_index_v6(Some(index))?,
        }
    }
    // It only sends.
    socket.set_recv_buffer_size(0)?;
    let mut own = SocketAddr::new(endpoint.source.unwrap_or(any), endpoint.source_port);
    if let (SocketAddr::V6(own), SocketAddr::V6(peer)) = (&mut own, endpoint.peer)
        && own.ip().is_unicast_link_local()
    {
        own.set_scope_id(peer.scope_id());
    }
    socket.bind(&own.into())?;
    Ok(socket.into())
}

/// Sends a datagram.
pub(super) fn send(socket: &OwnedFd, payload: &[u8], to: SocketAddr) -> io::Result<()> {
    let address = SockaddrStorage::from(to);
    nix::sys::socket::sendto(socket.as_raw_fd(), payload, &address, MsgFlags::MSG_DONTWAIT)?;
    Ok(())
}

/// Receives one datagram, or the start of it.
pub(super) fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Envelope> {
    let mut control =
        nix::cmsg_space!(libc::in6_pktinfo, libc::in_pktinfo, libc::c_int, libc::c_int, libc::timespec, u32);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let mut envelope = Envelope { length: message.bytes, ..Envelope::default() };
    if let Some(address) = &message.address {
        envelope.from = from(address);
        if let Some(link) = address.as_link_addr() {
            envelope.interface = u32::try_from(link.ifindex()).unwrap_or(0);
            let link: &libc::sockaddr_ll = link.as_ref();
            envelope.outgoing = link.sll_pkttype == libc::PACKET_OUTGOING;
        }
    }
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                envelope.interface = info.ipi_ifindex.cast_unsigned();
                envelope.to = Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into());
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                envelope.interface = info.ipi6_ifindex;
                envelope.to = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
            }
            ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => {
                envelope.ttl = u8::try_from(ttl).ok();
            }
            ControlMessageOwned::ScmTimestampns(stamp) => envelope.stamp = Some(stamp.into()),
            ControlMessageOwned::RxqOvfl(count) => envelope.overflown = Some(count),
            _ => {}
        }
    }
    Ok(envelope)
}

fn from(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|address| SocketAddr::V4((*address).into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| SocketAddr::V6((*address).into())))
}

/// A socket that sees BFD packets of all programs, on all interfaces, both ways (CAP_NET_RAW). It begins with the IP header.
pub(super) fn tap() -> io::Result<OwnedFd> {
    // Closed by its protocol, zero, until the filter is there.
    let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking(), None)?;
    socket.attach_filter(&control_packets())?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    let everything = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: 0,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the address lives through the call, and the length is its own.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const everything).cast(),
            size_of_val(&everything) as libc::socklen_t,
        )
    };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(socket.into()) }
}

/// A classic BPF filter: unfragmented UDP to a port of control packets, in IPv4 without a look at options beyond their length,
/// in IPv6 without extension headers.
fn control_packets() -> [SockFilter; 18] {
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_HALF: u16 = 0x28;
    const LOAD_HALF_INDEXED: u16 = 0x48;
    const HEADER_LENGTH: u16 = 0xb1;
    const AND: u16 = 0x54;
    const JUMP_EQUAL: u16 = 0x15;
    const JUMP_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    const UDP: u32 = 17;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, 0),
        SockFilter::new(AND, 0, 0, 0xf0),
        SockFilter::new(JUMP_EQUAL, 5, 0, 0x60),  // to 8: IPv6
        SockFilter::new(JUMP_EQUAL, 0, 13, 0x40), // to 17: neither
        SockFilter::new(LOAD_HALF, 0, 0, 6),
        SockFilter::new(JUMP_SET, 11, 0, 0x1fff), // to 17: not the first fragment
        SockFilter::new(LOAD_BYTE, 0, 0, 9),
        SockFilter::new(JUMP_EQUAL, 4, 9, UDP), // to 12, to 17
        SockFilter::new(LOAD_BYTE, 0, 0, 6),
        SockFilter::new(JUMP_EQUAL, 0, 7, UDP), // to 17
        SockFilter::new(LOAD_HALF, 0, 0, 42),
        SockFilter::new(JUMP_EQUAL, 4, 3, u32::from(PORT)), // to 16, to 15
        SockFilter::new(HEADER_LENGTH, 0, 0, 0),
        SockFilter::new(LOAD_HALF_INDEXED, 0, 0, 2),
        SockFilter::new(JUMP_EQUAL, 1, 0, u32::from(PORT)), // to 16
        SockFilter::new(JUMP_EQUAL, 0, 1, u32::from(MULTIHOP_PORT)), // to 17
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// What a tapped packet shows: who sent it to whom, to which port, and its payload.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tapped<'a> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) source_port: u16,
    pub(super) multihop: bool,
    pub(super) payload: &'a [u8],
}

/// Reads a tapped packet, which begins with the IP header; `None` when it is no control packet.
pub(super) fn tapped(packet: &[u8]) -> Option<Tapped<'_>> {
    let (source, destination, rest): (IpAddr, IpAddr, _) = match packet.first()? >> 4 {
        4 => {
            let address = |at: usize| packet.get(at..at + 4)?.first_chunk::<4>().copied();
            let header = usize::from(packet.first()? & 0xf) * 4;
            (address(12)?.into(), address(16)?.into(), packet.get(header.max(20)..)?)
        }
        6 => {
            let address = |at: usize| packet.get(at..at + 16)?.first_chunk::<16>().copied();
            (address(8)?.into(), address(24)?.into(), packet.get(40..)?)
        }
        _ => return None,
    };
    let port = |at: usize| rest.get(at..at + 2)?.first_chunk().map(|octets| u16::from_be_bytes(*octets));
    let multihop = match port(2)? {
        PORT => false,
        MULTIHOP_PORT => true,
        _ => return None,
    };
    Some(Tapped { source, destination, source_port: port(0)?, multihop, payload: rest.get(8..)? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tapped_packet_is_taken_apart() {
        let mut packet = [0; 20 + 8 + 24];
        packet[0] = 0x45;
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        packet[20..24].copy_from_slice(&[0xc0, 0x01, 0x0e, 0xc8]);
        let tapped = tapped(&packet).unwrap();
        assert_eq!((tapped.source_port, tapped.multihop, tapped.payload.len()), (0xc001, false, 24));
        assert_eq!(tapped.source.to_string(), "10.0.0.1");
        packet[23] = 0xc9;
        assert_eq!(super::tapped(&packet), None, "3785 is echo");
    }

    proptest! {
        #[test]
        fn no_packet_panics(packet: Vec<u8>) {
            let _ = tapped(&packet);
        }
    }
}
