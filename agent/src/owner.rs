//! Which program has a port, for messages to people.

use std::fs;
use std::path::Path;

/// The program that has a UDP port in this network namespace, as `name (process 42)`, or as `a program of user 110` where this
/// process may not look at the others (CAP_SYS_PTRACE, or the same user). `None` when nobody has it.
pub fn of_udp_port(port: u16) -> Option<String> {
    let sockets: Vec<(String, String)> = ["udp", "udp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(Path::new("/proc/thread-self/net").join(table)).ok())
        .flat_map(|table| sockets(&table, port))
        .collect();
    let user = &sockets.first()?.1;
    let inodes: Vec<&str> = sockets.iter().map(|(inode, _)| inode.as_str()).collect();
    // By number alone: `self` is a process, too.
    let numbered = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let mut processes = fs::read_dir("/proc").ok()?.flatten().filter(numbered).map(|entry| entry.path());
    let named = processes.find(|process| holds(process, &inodes)).and_then(|process| {
        let name = fs::read_to_string(process.join("comm")).ok()?;
        Some(format!("{} (process {})", name.trim(), process.file_name()?.to_string_lossy()))
    });
    Some(named.unwrap_or_else(|| format!("a program of user {user}")))
}

/// The sockets on a port in the text of /proc/net/udp, each with its user.
fn sockets(table: &str, port: u16) -> Vec<(String, String)> {
    let end = format!(":{port:04X}");
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let held = rows.filter(|fields| fields.get(1).is_some_and(|local| local.ends_with(&end)));
    held.filter_map(|fields| Some((format!("socket:[{}]", fields.get(9)?), (*fields.get(7)?).to_owned())))
        .collect()
}

fn holds(process: &Path, sockets: &[&str]) -> bool {
    let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let mut targets = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    !sockets.is_empty() && targets.any(|target| sockets.iter().any(|socket| Path::new(*socket) == target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_port_is_named() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let owner = of_udp_port(port).unwrap();
        assert!(owner.ends_with(&format!("(process {})", std::process::id())), "{owner}");
        drop(socket);
        assert_eq!(of_udp_port(port), None);
    }
}
