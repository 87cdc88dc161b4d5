//! Netlink sockets: one to ask, one to listen.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, recvfrom, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use tokio::io::unix::AsyncFd;

use super::Error;
use super::attribute::{Message, messages, request, u32_at};

/// The kernel fills dumps up to 32 KiB a datagram and sends no notification that is larger.
const DATAGRAM: usize = 64 * 1024;
/// A dump waits for the kernel's configuration lock (rtnl), which a storm of changes may hold for long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the kernel. The answers are made while asking, so a call blocks for the kernel's own work and nothing else.
pub(super) struct Requests {
    socket: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

/// Whether what a dump walked through changed meanwhile, so that it may have missed something (`NLM_F_DUMP_INTR`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consistency {
    Whole,
    Interrupted,
}

impl Requests {
    pub(super) fn open(protocol: SockProtocol) -> Result<Self, Error> {
        let socket = netlink_socket(protocol, SockFlag::empty()).map_err(Error::open)?;
        let patience = TimeVal::new(PATIENCE.as_secs() as i64, 0);
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience).map_err(Error::open)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(Error::open)?;
        Ok(Self { socket, buffer: vec![0; DATAGRAM], sequence: 0 })
    }

    /// Asks for all objects of a kind and hands over each.
    pub(super) fn dump(
        &mut self,
        kind: u16,
        body: &[u8],
        each: impl FnMut(&[u8]),
    ) -> io::Result<Consistency> {
        self.ask(kind, libc::NLM_F_DUMP as u16, body, each)
    }

    /// Asks for one object.
    pub(super) fn one(&mut self, kind: u16, body: &[u8], each: impl FnMut(&[u8])) -> io::Result<Consistency> {
        self.ask(kind, libc::NLM_F_ACK as u16, body, each)
    }

    fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<Consistency> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request(kind, flags | libc::NLM_F_REQUEST as u16, self.sequence, body);
        send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let mut consistency = Consistency::Whole;
        loop {
            let length = retried(|| recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()))?;
            let datagram = self.buffer.get(..length).unwrap_or_default();
            // Answers to an earlier request that was given up may still come.
            for message in messages(datagram).filter(|message| message.sequence == self.sequence) {
                if message.flags & libc::NLM_F_DUMP_INTR as u16 != 0 {
                    consistency = Consistency::Interrupted;
                }
                match outcome(&message) {
                    None => each(message.body),
                    Some(result) => return result.map(|()| consistency),
                }
            }
        }
    }
}

/// How a request ended, if this message ends it. Both endings begin with a negative error number or zero.
fn outcome(message: &Message<'_>) -> Option<io::Result<()>> {
    let ends = [libc::NLMSG_DONE, libc::NLMSG_ERROR].contains(&i32::from(message.kind));
    ends.then(|| match u32_at(message.body, 0).unwrap_or_default() as i32 {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error.saturating_neg())),
    })
}

/// Listens to what the kernel tells of links, neighbours and routes.
pub(super) struct Monitor {
    socket: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Subscribes. From here on, either a change arrives or [`Monitor::receive`] fails with `ENOBUFS`.
    pub(super) fn open(receive_buffer: usize) -> Result<Self, Error> {
        let socket =
            netlink_socket(SockProtocol::NetlinkRoute, SockFlag::SOCK_NONBLOCK).map_err(Error::open)?;
        // Beyond the host's limit only with CAP_NET_ADMIN; without it, what the limit allows.
        if setsockopt(&socket, sockopt::RcvBufForce, &receive_buffer).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &receive_buffer).map_err(Error::open)?;
        }
        let groups =
            [libc::RTNLGRP_LINK, libc::RTNLGRP_NEIGH, libc::RTNLGRP_IPV4_ROUTE, libc::RTNLGRP_IPV6_ROUTE];
        let groups = groups.iter().fold(0, |mask, group| mask | 1 << (group - 1));
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups)).map_err(Error::open)?;
        // SAFETY: the descriptor is open, and stays so and the same for as long as the `OwnedFd` lives in the `AsyncFd`.
        let socket =
            unsafe { AsyncFd::register(socket) }.map_err(|error| Error::Open(error.into_parts().1))?;
        Ok(Self { socket, buffer: vec![0; DATAGRAM] })
    }

    /// The next datagram. Nothing is lost when the future is dropped before it is ready.
    pub(super) async fn receive(&mut self) -> io::Result<&[u8]> {
        let buffer = &mut self.buffer;
        loop {
            let mut ready = self.socket.readable().await?;
            let received =
                ready.try_io(|socket| Ok(retried(|| recvfrom::<NetlinkAddr>(socket.as_raw_fd(), buffer))?));
            match received {
                // Other processes can send here too; the kernel's port is 0.
                Ok(Ok((_, Some(sender)))) if sender.pid() != 0 => continue,
                Ok(Ok((length, _))) => return Ok(self.buffer.get(..length).unwrap_or_default()),
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => continue,
            }
        }
    }
}

fn netlink_socket(protocol: SockProtocol, flags: SockFlag) -> nix::Result<OwnedFd> {
    socket(AddressFamily::Netlink, SockType::Raw, flags | SockFlag::SOCK_CLOEXEC, protocol)
}

fn retried<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => continue,
            result => return result,
        }
    }
}
