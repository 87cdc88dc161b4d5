//! Putting crafted frames on a link, by a packet socket.

use std::io::ErrorKind;

use anyhow::{Context, Result, ensure};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::Namespace;

/// A packet socket on one interface. One frame sent is one frame on the link.
#[derive(Debug)]
pub struct Wire {
    socket: Socket,
    address: SockAddr,
}

impl Wire {
    /// Open an interface for sending.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        let index = namespace.index(interface)?;
        // Protocol 0: this socket receives nothing.
        let socket = namespace
            .run(|| Ok(Socket::new(Domain::PACKET, Type::RAW, None)?))
            .context("open a packet socket")?;
        Ok(Self { socket, address: address(index)? })
    }

    /// Send one frame, Ethernet header first.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        loop {
            match self.socket.send_to(frame, &self.address) {
                Ok(length) => {
                    break ensure!(length == frame.len(), "{length} of {} bytes were sent", frame.len());
                }
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                // The queue of the link is full: nothing was sent.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => std::thread::yield_now(),
                Err(error) => return Err(error).context("send a frame"),
            }
        }
        Ok(())
    }

    /// Send a frame `count` times.
    pub fn repeat(&self, frame: &[u8], count: usize) -> Result<()> {
        (0..count).try_for_each(|_| self.send(frame))
    }
}

/// packet(7): the frame itself has all addresses, so the index of the interface is enough.
fn address(index: u32) -> Result<SockAddr> {
    // SAFETY: sockaddr_storage is larger than sockaddr_ll and aligned for it; the length set is that of sockaddr_ll.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let link = storage.cast::<libc::sockaddr_ll>();
            (*link).sll_family = libc::AF_PACKET as libc::sa_family_t;
            (*link).sll_ifindex = index.cast_signed();
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }?;
    Ok(address)
}
