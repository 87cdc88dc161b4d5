//! Ports on loopback that lead to a listener elsewhere: from this machine into a namespace, and out of one. Nothing of the
//! machine's own network is changed for it.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};

use crate::{Namespace, namespace};

/// Listen on 127.0.0.1:`wish`, or on any free port if that is taken, and pass connections to `target` in the namespace.
/// It serves until this process ends.
pub fn open(namespace: &Namespace, target: SocketAddr, wish: u16) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, wish))
        .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .context("listen on loopback")?;
    let address = listener.local_addr()?;
    let file = File::open(Path::new(namespace::FOLDER).join(namespace.name()))?;
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            if let Ok(file) = file.try_clone() {
                std::thread::spawn(move || pass(client, &file, target));
            }
        }
    });
    Ok(address)
}

/// Listen on a loopback address inside the namespace, and pass connections to the same address of this machine. It serves
/// until this process ends.
pub fn outward(namespace: &Namespace, target: SocketAddr) -> Result<()> {
    let listener = namespace.run(|| TcpListener::bind(target).context("listen inside the namespace"))?;
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || join(&client, &TcpStream::connect(target)?));
        }
    });
    Ok(())
}

/// This thread belongs to the namespace from here on; the client's socket stays where it was made.
fn pass(client: TcpStream, namespace: &File, target: SocketAddr) -> io::Result<()> {
    setns(namespace, CloneFlags::CLONE_NEWNET)?;
    join(&client, &TcpStream::connect(target)?)
}

/// Passes octets both ways until both ends have said all.
fn join(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            io::copy(&mut &*client, &mut &*server).ok();
            server.shutdown(Shutdown::Write).ok();
        });
        io::copy(&mut &*server, &mut &*client).ok();
        client.shutdown(Shutdown::Both).ok();
    });
    Ok(())
}
