//! Generic receive offload of a link, by the ioctl behind `ethtool -K LINK gro on`.

use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};

/// `ETHTOOL_SGRO` of linux/ethtool.h.
const SET_GRO: u32 = 0x2c;

/// Turns it on for an interface of this thread's namespace.
pub(super) fn receive(interface: &str) -> Result<()> {
    ensure!(interface.len() < libc::IFNAMSIZ, "{interface} is no name of an interface");
    // `struct ethtool_value`: the command, and its argument.
    let mut value = [SET_GRO, 1];
    // SAFETY: a request of zeroes is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, octet) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *place = octet as libc::c_char;
    }
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: the request and the value that it points to live for the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        return Err(std::io::Error::last_os_error()).context("cannot turn generic receive offload on");
    }
    Ok(())
}
