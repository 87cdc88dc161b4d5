//! One HTTP GET, enough to scrape a metrics listener inside a namespace.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::Namespace;

const LIMIT: Duration = Duration::from_secs(5);

/// Status code and body of `GET path`, asked from inside the namespace.
pub fn get(namespace: &Namespace, address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let reply = namespace.run(|| {
        let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        // HTTP/1.0: the body ends with the connection, and is never chunked.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        Ok(reply)
    })?;
    let (head, body) = reply.split_once("\r\n\r\n").context("the reply has no end of header")?;
    let status =
        head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("the reply has no status")?;
    Ok((status, body.to_owned()))
}
