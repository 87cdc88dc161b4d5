//! Certificates that change while their listener listens, over real connections.
#![allow(clippy::unwrap_used, reason = "tests may fail")]

use std::{net::SocketAddr, sync::Arc};

use futures::StreamExt as _;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy, split},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use weir_tls::{Clients, Files, Identity, Listener, PairError, Protocol};

mod secret;

use secret::{Authority, Mounted, NAME, Signed};

/// A server that says back what it is told; it ends with this value.
struct Echo {
    address: SocketAddr,
    identity: Arc<Identity>,
    _tasks: JoinSet<()>,
}

impl Echo {
    async fn start(mounted: &Mounted, clients: Clients) -> Self {
        let identity = Identity::read(Files::in_folder(mounted.path()), clients).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let listener = Listener::new(tcp, Some(Arc::clone(&identity)), Protocol::Calls);
        let mut tasks = JoinSet::new();
        tasks.spawn(listener.incoming().for_each_concurrent(None, async |stream| {
            let (mut from, mut to) = split(stream.unwrap());
            let _ = copy(&mut from, &mut to).await;
        }));
        Self { address, identity, _tasks: tasks }
    }

    async fn connect(&self, client: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.address).await?;
        let mut stream = TlsConnector::from(client).connect(ServerName::try_from(NAME).unwrap(), tcp).await?;
        // With TLS 1.3 a client learns that its certificate is refused when it reads.
        ask(&mut stream).await?;
        Ok(stream)
    }
}

async fn ask(stream: &mut TlsStream<TcpStream>) -> std::io::Result<()> {
    stream.write_all(b"hello").await?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"hello");
    Ok(())
}

fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn a_stream_outlives_a_swap_and_the_next_one_sees_the_new_certificate() {
    let authority = Authority::new("one");
    let (old, new) = (authority.sign(), authority.sign());
    let mounted = Mounted::new(&old, &authority);
    let echo = Echo::start(&mounted, Clients::Anybody).await;
    let mut first = echo.connect(authority.client(None, "h2")).await.unwrap();
    assert_eq!(shown(&first), old.der().to_vec());
    mounted.swap(&new, &authority.pem);
    let second = echo.connect(authority.client(None, "h2")).await.unwrap();
    assert_eq!(shown(&second), new.der().to_vec());
    ask(&mut first).await.unwrap();
    let reading = echo.identity.reading();
    assert_eq!((reading.swapped, reading.refused, reading.newest_refused), (1, 0, false));
    assert_eq!(reading.not_after.as_secs(), 4_102_444_800, "2100-01-01");
}

#[tokio::test]
async fn a_bad_new_pair_keeps_the_old_one_until_a_good_one_comes() {
    let authority = Authority::new("one");
    let (old, other) = (authority.sign(), authority.sign());
    let mounted = Mounted::new(&old, &authority);
    let echo = Echo::start(&mounted, Clients::Anybody).await;
    let bad = [
        Signed { certificate: other.certificate.clone(), ..old.clone() },
        Signed { certificate: "nothing".to_owned(), ..old.clone() },
        Signed { key: "nothing".to_owned(), ..other.clone() },
        authority.sign_until(2001),
    ];
    for (before, pair) in bad.iter().enumerate() {
        mounted.swap(pair, &authority.pem);
        for _ in 0..2 {
            let stream = echo.connect(authority.client(None, "h2")).await.unwrap();
            assert_eq!(shown(&stream), old.der().to_vec());
        }
        let reading = echo.identity.reading();
        assert!(reading.newest_refused);
        assert_eq!((reading.swapped, reading.refused), (0, before as u64 + 1), "told once a pair");
    }
    mounted.swap(&other, &authority.pem);
    let stream = echo.connect(authority.client(None, "h2")).await.unwrap();
    assert_eq!(shown(&stream), other.der().to_vec());
    let reading = echo.identity.reading();
    assert_eq!((reading.swapped, reading.newest_refused), (1, false));
}

#[tokio::test]
async fn clients_need_a_certificate_of_the_authority_that_the_files_hold_now() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let server = ours.sign();
    let mounted = Mounted::new(&server, &ours);
    let echo = Echo::start(&mounted, Clients::Certified).await;
    let [good, bad] = [ours.sign(), theirs.sign()];
    echo.connect(ours.client(Some(&good), "h2")).await.unwrap();
    assert!(echo.connect(ours.client(Some(&bad), "h2")).await.is_err());
    assert!(echo.connect(ours.client(Some(&ours.sign_until(2001)), "h2")).await.is_err());
    assert!(echo.connect(ours.client(None, "h2")).await.is_err());
    assert_eq!(echo.identity.reading().failed, 3);
    mounted.swap(&server, &theirs.pem);
    echo.connect(ours.client(Some(&bad), "h2")).await.unwrap();
    assert!(echo.connect(ours.client(Some(&good), "h2")).await.is_err());
}

#[tokio::test]
async fn who_says_nothing_holds_nobody_up() {
    let authority = Authority::new("one");
    let mounted = Mounted::new(&authority.sign(), &authority);
    let echo = Echo::start(&mounted, Clients::Anybody).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(echo.address).await.unwrap());
    }
    echo.connect(authority.client(None, "h2")).await.unwrap();
}

#[test]
fn the_first_pair_must_be_usable() {
    let authority = Authority::new("one");
    let mounted = Mounted::new(&authority.sign_until(2001), &authority);
    let start = |clients| Identity::read(Files::in_folder(mounted.path()), clients).err();
    assert!(matches!(start(Clients::Anybody), Some(PairError::Dates { .. })));
    mounted.swap(&authority.sign(), "");
    assert!(start(Clients::Anybody).is_none());
    let none = start(Clients::Certified).unwrap().to_string();
    assert!(none.contains("ca.crt holds no PEM certificate"), "{none}");
    std::fs::remove_file(mounted.path().join("tls.key")).unwrap();
    assert!(start(Clients::Anybody).unwrap().to_string().ends_with("tls.key"));
}
