//! One HTTP request, enough to scrape a listener inside a namespace or to talk to the stand-in router's control endpoint.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::Namespace;

const LIMIT: Duration = Duration::from_secs(5);

/// Status code and body of `GET path`, asked from inside the namespace.
pub fn get(namespace: &Namespace, address: SocketAddr, path: &str) -> Result<(u16, String)> {
    ask(namespace, address, &format!("GET {path}"), "")
}

/// Status code and body of `POST path`, asked from inside the namespace.
pub fn post(namespace: &Namespace, address: SocketAddr, path: &str, body: &str) -> Result<(u16, String)> {
    ask(namespace, address, &format!("POST {path}"), body)
}

fn ask(namespace: &Namespace, address: SocketAddr, what: &str, body: &str) -> Result<(u16, String)> {
    let reply = namespace.run(|| {
        let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        // HTTP/1.0: the body ends with the connection, and is never chunked.
        let length = body.len();
        write!(stream, "{what} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{body}")?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        Ok(reply)
    })?;
    let (head, body) = reply.split_once("\r\n\r\n").context("the reply has no end of header")?;
    let status =
        head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("the reply has no status")?;
    Ok((status, body.to_owned()))
}
