//! Probes virtual addresses from this node, and asks the link who has them.
//!
//! A TCP port is asked by a connection that is closed at once; a UDP port by an empty datagram, where only a refusal tells
//! something. What to ask and when is decided in [`crate::model::probe`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Shell, sleep_until, socket, wire};
use crate::model::address::{IfIndex, Mac, Protocol};
use crate::model::cluster::ServicePort;
use crate::model::probe::{Question, VipPlan, VipProber};
use crate::model::vip::Answer;

/// Answers by address and port.
pub type Answers = BTreeMap<IpAddr, BTreeMap<ServicePort, Answer>>;

/// What is sent on links. Open it before privileges are dropped; without it nobody is asked who has an address.
#[derive(Debug)]
pub struct Askers {
    arp: Option<OwnedFd>,
    neighbour: Option<OwnedFd>,
}

impl Askers {
    /// Opens what this process may open.
    pub fn open() -> Self {
        let told = |what: &str, socket: io::Result<OwnedFd>| {
            let refused = |error: &io::Error| {
                tracing::warn!(%error, "nobody is asked by {what} who has a virtual address; grant CAP_NET_RAW");
            };
            socket.inspect_err(refused).ok()
        };
        Self {
            arp: told("ARP", socket::arp_sender()),
            neighbour: told("neighbour discovery", socket::solicitor()),
        }
    }

    fn ask(&self, vip: IpAddr, interface: IfIndex, mac: Option<Mac>) -> io::Result<()> {
        match (vip, mac, &self.arp, &self.neighbour) {
            (IpAddr::V4(vip), Some(mac), Some(socket), _) => {
                // An address probe (RFC 5227 section 2.1.1) claims nothing: its sender is 0.0.0.0.
                let packet = wire::arp_request(mac, Ipv4Addr::UNSPECIFIED, vip);
                socket::send_arp(socket, interface, Mac([0xff; 6]), &packet)
            }
            (IpAddr::V6(vip), mac, _, Some(socket)) => {
                let group: Ipv6Addr = wire::solicited_node(vip);
                socket::send_ip(socket, interface, group.into(), &wire::solicitation(vip, mac))
            }
            _ => Ok(()),
        }
    }
}

/// Asks the questions that `wanted` holds, until `stop`, and tells what is known by now after each answer.
pub async fn run(
    askers: Askers,
    plan: VipPlan,
    mut wanted: watch::Receiver<BTreeSet<Question>>,
    answers: watch::Sender<Answers>,
    stop: CancellationToken,
) {
    let mut prober = VipProber::new(plan);
    let (origin, mut state) = (Instant::now(), Shell::seed());
    let mut under_way: JoinSet<(Question, Option<Answer>)> = JoinSet::new();
    wanted.mark_changed();
    loop {
        while let Some(question) = prober.poll(origin.elapsed(), &mut super::random(&mut state)) {
            match question {
                Question::Port(vip, port) => {
                    let limit = plan.timeout;
                    under_way.spawn(async move { (question, ask(vip, port, limit).await) });
                }
                Question::WhoHas(vip, interface, mac) => {
                    if let Err(error) = askers.ask(vip, interface, mac) {
                        tracing::debug!(%error, "cannot ask who has a virtual address");
                    }
                }
            }
        }
        let wake = prober.next().map(|next| origin + next);
        tokio::select! {
            () = stop.cancelled() => return,
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                let questions = wanted.borrow_and_update().clone();
                prober.follow(questions, origin.elapsed(), &mut super::random(&mut state));
            }
            Some(done) = under_way.join_next() => {
                if let Ok((question, answer)) = done {
                    prober.answer(question, answer, origin.elapsed());
                }
            }
            () = sleep_until(wake) => continue,
        }
        let known = prober.answers();
        answers.send_if_modified(|told| {
            let news = *told != known;
            if news {
                *told = known;
            }
            news
        });
    }
}

async fn ask(vip: IpAddr, port: ServicePort, limit: Duration) -> Option<Answer> {
    let target = SocketAddr::new(vip, port.port);
    match port.protocol {
        Protocol(6) => connect(target, limit).await,
        Protocol(17) => knock(target, limit).await,
        _ => None,
    }
}

async fn connect(target: SocketAddr, limit: Duration) -> Option<Answer> {
    let begun = Instant::now();
    match timeout(limit, TcpStream::connect(target)).await {
        Ok(Ok(_)) => Some(Answer::Answered(begun.elapsed())),
        Ok(Err(error)) => failure(&error),
        Err(_) => Some(Answer::Silent),
    }
}

/// An empty datagram: an ICMP message says that nobody listens; silence says nothing.
async fn knock(target: SocketAddr, limit: Duration) -> Option<Answer> {
    let any =
        if target.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let begun = Instant::now();
    let asked = async {
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(target).await?;
        socket.send(&[]).await?;
        socket.recv(&mut [0; 1]).await
    };
    match timeout(limit, asked).await {
        Ok(Ok(_)) => Some(Answer::Answered(begun.elapsed())),
        Ok(Err(error)) => failure(&error),
        Err(_) => Some(Answer::Unclear),
    }
}

/// What an error says of the address; `None` when it says something of this host only, such as too many open files.
fn failure(error: &io::Error) -> Option<Answer> {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => Some(Answer::Refused),
        Some(libc::ECONNRESET) => Some(Answer::Refused),
        Some(libc::ETIMEDOUT) => Some(Answer::Silent),
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EPERM) => Some(Answer::NoRoute),
        _ => {
            tracing::debug!(%error, "a virtual address could not be probed");
            None
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may fail")]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(500);

    fn port(of: SocketAddr, protocol: u8) -> (IpAddr, ServicePort) {
        (of.ip(), ServicePort { port: of.port(), protocol: Protocol(protocol) })
    }

    #[tokio::test]
    async fn tcp_ports_answer_or_are_refused() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (vip, one) = port(listener.local_addr().unwrap(), 6);
        assert!(matches!(ask(vip, one, LIMIT).await, Some(Answer::Answered(_))));
        drop(listener);
        assert_eq!(ask(vip, one, LIMIT).await, Some(Answer::Refused));
    }

    #[tokio::test]
    async fn udp_ports_are_refused_or_unclear() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (vip, one) = port(socket.local_addr().unwrap(), 17);
        assert_eq!(ask(vip, one, LIMIT).await, Some(Answer::Unclear));
        drop(socket);
        assert_eq!(ask(vip, one, LIMIT).await, Some(Answer::Refused));
    }

    #[tokio::test]
    async fn what_is_no_longer_wanted_is_no_longer_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (vip, one) = port(listener.local_addr().unwrap(), 6);
        let (sender, wanted) = watch::channel(BTreeSet::from([Question::Port(vip, one)]));
        let (told, mut answers) = watch::channel(Answers::new());
        let stop = CancellationToken::new();
        let askers = Askers { arp: None, neighbour: None };
        let running = tokio::spawn(run(askers, VipPlan::default(), wanted, told, stop.clone()));
        answers.wait_for(|known| known.contains_key(&vip)).await.unwrap();
        sender.send_replace(BTreeSet::new());
        answers.wait_for(|known| known.is_empty()).await.unwrap();
        stop.cancel();
        running.await.unwrap();
    }
}
