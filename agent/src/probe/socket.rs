//! The sockets of the probers. Each serves every uplink: the interface is named packet by packet, which binds a probe
//! to its uplink as `SO_BINDTODEVICE` would, and lets all sockets be opened before privileges are dropped.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrLike, SockaddrStorage,
    recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::wire::{Family, ND_HOP_LIMIT};
use crate::model::address::{IfIndex, Mac};

/// How the kernel lets this process send echoes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// An unprivileged ping socket.
    Ping,
    /// A raw socket (CAP_NET_RAW).
    Raw,
}

/// What arrived beside the packet itself.
#[derive(Debug, Default)]
pub(super) struct Envelope {
    pub(super) length: usize,
    pub(super) interface: u32,
    pub(super) from: Option<IpAddr>,
    pub(super) hop_limit: Option<i32>,
    /// When the kernel received it, by the real-time clock.
    pub(super) stamp: Option<Duration>,
}

/// A socket for ARP replies to this host, on all interfaces.
pub(super) fn arp() -> io::Result<OwnedFd> {
    let protocol = i32::from((libc::ETH_P_ARP as u16).to_be());
    let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking(), Some(Protocol::from(protocol)))?;
    socket.attach_filter(&arp_replies_to_us())?;
    finish(socket)
}

/// A socket that sends ARP and receives nothing: protocol 0 takes no packet (packet(7)).
pub(super) fn arp_sender() -> io::Result<OwnedFd> {
    Ok(Socket::new(Domain::PACKET, Type::DGRAM.nonblocking(), None)?.into())
}

/// A socket that sends neighbour solicitations and receives nothing.
pub(super) fn solicitor() -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::IPV6, Type::RAW.nonblocking(), Some(Protocol::ICMPV6))?;
    option(&socket, libc::IPPROTO_ICMPV6, ICMP6_FILTER, &[u32::MAX; 8])?;
    socket.set_multicast_hops_v6(ND_HOP_LIMIT as u32)?;
    Ok(socket.into())
}

/// A socket for neighbour solicitations and advertisements, on all interfaces.
pub(super) fn neighbour() -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::IPV6, Type::RAW.nonblocking(), Some(Protocol::ICMPV6))?;
    option(&socket, libc::IPPROTO_ICMPV6, ICMP6_FILTER, &only_icmpv6(136))?;
    socket.set_multicast_hops_v6(ND_HOP_LIMIT as u32)?;
    setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
    finish(socket)
}

/// A socket for echoes that are never fragmented: a ping socket where this process may have one, else a raw one.
pub(super) fn echo(family: Family) -> io::Result<(OwnedFd, Way)> {
    let open = |kind: Type| match family {
        Family::V4 => Socket::new(Domain::IPV4, kind.nonblocking(), Some(Protocol::ICMPV4)),
        Family::V6 => Socket::new(Domain::IPV6, kind.nonblocking(), Some(Protocol::ICMPV6)),
    };
    let (socket, way) = match open(Type::DGRAM) {
        Ok(socket) => (socket, Way::Ping),
        Err(_) => (open(Type::RAW)?, Way::Raw),
    };
    match family {
        Family::V4 => {
            option(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, &libc::IP_PMTUDISC_PROBE)?;
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
        }
        Family::V6 => {
            option(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, &libc::IPV6_PMTUDISC_PROBE)?;
            option(&socket, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, &1_i32)?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
        }
    }
    match (way, family) {
        (Way::Ping, _) => {}
        (Way::Raw, Family::V4) => option(&socket, SOL_RAW, ICMP_FILTER, &!(1_u32 << family.reply()))?,
        (Way::Raw, Family::V6) => {
            option(&socket, libc::IPPROTO_ICMPV6, ICMP6_FILTER, &only_icmpv6(family.reply()))?;
        }
    }
    Ok((finish(socket)?, way))
}

/// The address from which this host would talk to a gateway through an interface.
pub(super) fn source(interface: IfIndex, gateway: Ipv4Addr) -> io::Result<Ipv4Addr> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    option(&socket, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, &u32::from(interface))?;
    // Connecting a datagram socket sends nothing. Port 9 is discard.
    socket.connect(&SocketAddr::V4(SocketAddrV4::new(gateway, 9)).into())?;
    match socket.local_addr()?.as_socket_ipv4() {
        Some(address) if !address.ip().is_unspecified() => Ok(*address.ip()),
        _ => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

/// Sends an ARP packet out of an interface.
pub(super) fn send_arp(socket: &OwnedFd, interface: IfIndex, to: Mac, packet: &[u8]) -> io::Result<()> {
    let mut address = [0; 8];
    address[..6].copy_from_slice(&to.0);
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ARP as u16).to_be(),
        sll_ifindex: i32::try_from(u32::from(interface)).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: address,
    };
    // SAFETY: the packet and the address live through the call, and the lengths are theirs.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            libc::MSG_DONTWAIT,
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sends an ICMP or ICMPv6 packet out of an interface.
pub(super) fn send_ip(socket: &OwnedFd, interface: IfIndex, to: IpAddr, packet: &[u8]) -> io::Result<()> {
    let index = u32::from(interface);
    match to {
        IpAddr::V4(to) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: i32::try_from(index).map_err(io::Error::other)?,
                ipi_spec_dst: libc::in_addr { s_addr: 0 },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
            send(socket, packet, ControlMessage::Ipv4PacketInfo(&info), &to)
        }
        IpAddr::V6(to) => {
            let info =
                libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: [0; 16] }, ipi6_ifindex: index };
            let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, scope(to, index)));
            send(socket, packet, ControlMessage::Ipv6PacketInfo(&info), &to)
        }
    }
}

/// Receives one packet, or the start of it.
pub(super) fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Envelope> {
    let mut control = nix::cmsg_space!(libc::in6_pktinfo, libc::in_pktinfo, libc::c_int, libc::timespec);
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
        envelope.interface =
            address.as_link_addr().and_then(|link| u32::try_from(link.ifindex()).ok()).unwrap_or(0);
    }
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                envelope.interface = info.ipi_ifindex.cast_unsigned()
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => envelope.interface = info.ipi6_ifindex,
            ControlMessageOwned::Ipv6HopLimit(limit) => envelope.hop_limit = Some(limit),
            ControlMessageOwned::ScmTimestampns(stamp) => envelope.stamp = Some(stamp.into()),
            _ => {}
        }
    }
    Ok(envelope)
}

/// An ICMP error that says that a packet of ours was too big.
#[derive(Debug)]
pub(super) struct TooBig {
    /// To whom the packet was sent.
    pub(super) to: IpAddr,
    /// What would pass.
    pub(super) mtu: u32,
    /// How much of the packet came back.
    pub(super) quoted: usize,
}

/// Takes one error off a socket's queue (ip(7), IP_RECVERR), with the packet that it is about. `None` for an error of another
/// kind.
pub(super) fn receive_error(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<TooBig>> {
    let mut control = nix::cmsg_space!(
        libc::sock_extended_err,
        libc::sockaddr_in6,
        libc::in6_pktinfo,
        libc::in_pktinfo,
        libc::timespec
    );
    let mut slices = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
    let Some(to) = message.address.as_ref().and_then(from) else { return Ok(None) };
    for control in message.cmsgs()? {
        let error = match control {
            ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => error,
            _ => continue,
        };
        let routers = [libc::SO_EE_ORIGIN_ICMP, libc::SO_EE_ORIGIN_ICMP6].contains(&error.ee_origin);
        if routers && error.ee_errno == libc::EMSGSIZE as u32 {
            return Ok(Some(TooBig { to, mtu: error.ee_info, quoted: message.bytes }));
        }
    }
    Ok(None)
}

fn from(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

fn send(
    socket: &OwnedFd,
    packet: &[u8],
    control: ControlMessage<'_>,
    to: &impl SockaddrLike,
) -> io::Result<()> {
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(packet)], &[control], MsgFlags::MSG_DONTWAIT, Some(to))?;
    Ok(())
}

/// Link-local addresses and groups mean nothing without their interface.
fn scope(address: Ipv6Addr, interface: u32) -> u32 {
    if address.is_unicast_link_local() || address.is_multicast() { interface } else { 0 }
}

fn finish(socket: Socket) -> io::Result<OwnedFd> {
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    Ok(socket.into())
}

/// linux/icmpv6.h and linux/icmp.h; not in libc.
const ICMP6_FILTER: i32 = 1;
const ICMP_FILTER: i32 = 1;
const SOL_RAW: i32 = 255;

/// `struct icmp6_filter` that lets one type through: a set bit blocks.
fn only_icmpv6(kind: u8) -> [u32; 8] {
    let mut blocked = [u32::MAX; 8];
    blocked[usize::from(kind >> 5)] &= !(1 << (kind & 31));
    blocked
}

/// A classic BPF filter: ARP replies that were sent to this host. Hosts with many bridged machines see far more ARP.
fn arp_replies_to_us() -> [SockFilter; 6] {
    const LOAD_HALF: u16 = 0x28;
    const JUMP_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();
    [
        SockFilter::new(LOAD_HALF, 0, 0, 6),
        SockFilter::new(JUMP_EQUAL, 0, 3, 2),
        SockFilter::new(LOAD_HALF, 0, 0, PACKET_TYPE),
        SockFilter::new(JUMP_EQUAL, 0, 1, u32::from(libc::PACKET_HOST)),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

fn option<T: bytemuck::NoUninit>(socket: &Socket, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, plain old data that lives through the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const *value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
