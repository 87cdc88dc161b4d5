//! Tokens at the gRPC interface over TCP, against a stand-in of Zitadel: roles, rotation, expiry, faults, absence.
#![allow(clippy::unwrap_used, reason = "tests may fail")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use weir_agent::export::grpc;
use weir_agent::export::proto::weir_client::WeirClient;
use weir_agent::export::proto::{BgpRequest, BgpResponse, FlowsRequest, LinksRequest, PolicySettleRequest};
use weir_agent::oidc::{Gate, Options, Pace};
use weir_tls::{Clients, Files, Identity, Listener, Protocol};

mod fixture;
#[path = "../../tls/tests/secret/mod.rs"]
mod secret;
#[path = "fixture/serve.rs"]
mod serve;
mod zitadel;

use secret::{Authority, Mounted, NAME};
use serve::Served;
use zitadel::{Fault, PROJECT, Signer, Zitadel};

/// Asks the issuer whenever there is a reason.
const EAGER: Pace =
    Pace { between: Duration::ZERO, renew: Duration::from_secs(600), trust: Duration::from_secs(3600) };

/// An agent behind a gate.
struct Agent {
    gate: Arc<Gate>,
    client: WeirClient<Channel>,
    address: String,
    ca: tempfile::NamedTempFile,
    served: Served,
}

impl Agent {
    async fn start(zitadel: &Zitadel, read: Option<&str>, pace: Pace) -> Self {
        Self::start_with(zitadel, read, pace, None).await
    }

    async fn start_with(
        zitadel: &Zitadel,
        read: Option<&str>,
        pace: Pace,
        identity: Option<Arc<Identity>>,
    ) -> Self {
        let ca = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(ca.path(), &zitadel.authority.pem).unwrap();
        let options = Options {
            issuer: Some(zitadel.issuer.clone()),
            audience: Some(PROJECT.to_owned()),
            read_role: read.map(str::to_owned),
            ca: Some(ca.path().to_owned()),
            ..Options::default()
        };
        let gate = Gate::new(options.settings().unwrap().unwrap(), pace);
        let served = Served::start();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap().to_string();
        let listener = Listener::new(tcp, identity, Protocol::Calls);
        tokio::spawn(grpc::serve_tcp(listener, served.service.clone(), Some(Arc::clone(&gate))));
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        Self { gate, client: WeirClient::new(channel), address, ca, served }
    }

    async fn read(&self, token: Option<&str>) -> Result<(), Status> {
        self.client.clone().links(with(token, LinksRequest {})).await.map(drop)
    }

    async fn change(&self, token: Option<&str>) -> Result<(), Status> {
        let answer = self.client.clone().policy_settle(with(token, PolicySettleRequest::default())).await;
        // There is no policy on this agent; whoever is told so came in.
        match answer {
            Err(status) if status.code() == Code::FailedPrecondition => Ok(()),
            other => other.map(drop),
        }
    }
}

fn with<T>(token: Option<&str>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    request
}

fn refused(answer: Result<(), Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), status.message().to_owned())
}

#[tokio::test]
async fn a_role_guards_what_changes_and_the_rest_is_open() {
    let signer = Signer::rsa("1");
    let zitadel = Zitadel::start(&[&signer]).await;
    let agent = Agent::start(&zitadel, None, EAGER).await;
    agent.read(None).await.unwrap();
    agent.read(Some("nonsense")).await.unwrap();
    assert_eq!(zitadel.asked(), 0, "nobody is asked about open calls");
    let (code, said) = refused(agent.change(None).await);
    assert_eq!(code, Code::Unauthenticated);
    let way_out = format!("a token of {} with the role weir-change; weirctl takes one", zitadel.issuer);
    assert!(said.contains(&way_out), "{said}");
    let (code, said) = refused(agent.change(Some(&signer.sign(&zitadel.claims(&["viewer"])))).await);
    assert_eq!(code, Code::PermissionDenied);
    assert!(said.contains("role weir-change") && said.contains(PROJECT), "{said}");
    agent.change(Some(&signer.sign(&zitadel.claims(&["viewer", "weir-change"])))).await.unwrap();
    assert_eq!(zitadel.asked(), 1, "keys are kept");
}

#[tokio::test]
async fn a_role_for_reading_guards_every_call_and_stream() {
    let signer = Signer::ec("1");
    let zitadel = Zitadel::start(&[&signer]).await;
    let agent = Agent::start(&zitadel, Some("viewer"), EAGER).await;
    let token = |roles: &[&str]| signer.sign(&zitadel.claims(roles));
    assert_eq!(refused(agent.read(None).await).0, Code::Unauthenticated);
    agent.read(Some(&token(&["viewer"]))).await.unwrap();
    agent.read(Some(&token(&["weir-change"]))).await.unwrap();
    assert_eq!(refused(agent.read(Some(&token(&["other"]))).await).0, Code::PermissionDenied);
    assert_eq!(refused(agent.change(Some(&token(&["viewer"]))).await).0, Code::PermissionDenied);
    let mut client = agent.client.clone();
    let none = client.flows(with(None, FlowsRequest::default())).await.unwrap_err();
    assert_eq!(none.code(), Code::Unauthenticated);
    let token = token(&["viewer"]);
    let mut flows = client.flows(with(Some(&token), FlowsRequest::default())).await.unwrap().into_inner();
    assert!(!flows.message().await.unwrap().unwrap().flows.is_empty());
    let reading = agent.gate.reading();
    assert_eq!(reading.refused.iter().sum::<u64>(), 4);
    assert_eq!((reading.fetched, reading.failed), (1, 0));
}

/// The last word of a stream, and how many messages came before it.
async fn end(stream: &mut Streaming<BgpResponse>) -> (usize, Status) {
    let mut messages = 0;
    loop {
        match stream.message().await {
            Ok(Some(_)) => messages += 1,
            Ok(None) => return (messages, Status::ok("")),
            Err(status) => return (messages, status),
        }
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_nothing_else_does() {
    let signer = Signer::ec("1");
    let zitadel = Zitadel::start(&[&signer]).await;
    let agent = Agent::start(&zitadel, Some("viewer"), EAGER).await;
    let mut claims = zitadel.claims(&["viewer"]);
    let long = signer.sign(&claims);
    // It is taken for 30 s more than it says.
    let last = jiff::Timestamp::now().as_second() + 3;
    claims["exp"] = json!(last - 30);
    let short = signer.sign(&claims);
    let follow = |token| with(token, BgpRequest { follow: true, interval_ms: 100, ..Default::default() });
    let mut client = agent.client.clone();
    let mut followed = client.bgp(follow(Some(&short))).await.unwrap().into_inner();
    let mut other = client.bgp(follow(Some(&long))).await.unwrap().into_inner();
    let mut local = serve::client(&agent.served.socket).await.bgp(follow(None)).await.unwrap().into_inner();
    agent.read(Some(&short)).await.unwrap();
    let look = with(Some(&short), BgpRequest::default());
    let (messages, done) = end(&mut client.bgp(look).await.unwrap().into_inner()).await;
    assert!(messages > 0 && done.code() == Code::Ok, "one that ends by itself: {done}");

    let (messages, status) = tokio::time::timeout(Duration::from_secs(60), end(&mut followed)).await.unwrap();
    assert!(jiff::Timestamp::now().as_second() >= last, "not before the token is refused");
    assert!(messages > 1, "{messages}");
    assert_eq!(status.code(), Code::Unauthenticated);
    let said = status.message();
    assert!(said.contains("has expired; get a new one") && !said.contains(&short), "{said}");
    assert!(refused(agent.read(Some(&short)).await).1.contains("expired"));
    agent.read(Some(&long)).await.unwrap();
    let tally = &agent.served.tally;
    let (begun, ended) = (tally.streams_begun.read(), tally.streams_ended.read());
    assert_eq!(begun - ended, 2, "the place of a stream that has ended is free");
    for stream in [&mut other, &mut local] {
        stream.message().await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_rotated_key_is_fetched_once_for_all_who_wait() {
    let (old, new) = (Signer::rsa("1"), Signer::ec("2"));
    let zitadel = Zitadel::start(&[&old]).await;
    let agent = Agent::start(&zitadel, None, EAGER).await;
    let claims = zitadel.claims(&["weir-change"]);
    agent.change(Some(&old.sign(&claims))).await.unwrap();
    zitadel.publish(&[&old, &new]);
    let token = new.sign(&claims);
    for answer in join_all((0..20).map(|_| agent.change(Some(&token)))).await {
        answer.unwrap();
    }
    agent.change(Some(&old.sign(&claims))).await.unwrap();
    assert_eq!(zitadel.asked(), 2);
    zitadel.publish(&[&new]);
    let another = Signer::ec("3").sign(&claims);
    assert_eq!(refused(agent.change(Some(&another)).await).0, Code::Unauthenticated);
    let (code, said) = refused(agent.change(Some(&old.sign(&claims))).await);
    assert_eq!(code, Code::Unauthenticated);
    assert!(said.contains("not among those"), "{said}");
}

#[tokio::test]
async fn unknown_keys_do_not_make_the_agent_ask_without_end() {
    let signer = Signer::ec("1");
    let zitadel = Zitadel::start(&[&signer]).await;
    let agent = Agent::start(&zitadel, None, Pace::default()).await;
    let claims = zitadel.claims(&["weir-change"]);
    agent.change(Some(&signer.sign(&claims))).await.unwrap();
    for number in 0..20 {
        let token = Signer::ec(&format!("forged-{number}")).sign(&claims);
        assert_eq!(refused(agent.change(Some(&token)).await).0, Code::Unauthenticated);
    }
    assert_eq!(zitadel.asked(), 1);
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_told_and_no_part_of_it() {
    let signer = Signer::rsa("1");
    let zitadel = Zitadel::start(&[&signer]).await;
    let agent = Agent::start(&zitadel, None, EAGER).await;
    let changed = |key: &str, value: Value| {
        let mut claims = zitadel.claims(&["weir-change"]);
        claims[key] = value;
        signer.sign(&claims)
    };
    let good = signer.sign(&zitadel.claims(&["weir-change"]));
    agent.change(Some(&good)).await.unwrap();
    let parts: Vec<&str> = good.split('.').collect();
    let mut richer = zitadel.claims(&["weir-change", "more"]);
    richer["sub"] = json!("somebody else");
    let header = |algorithm: &str| BASE64.encode(json!({"alg": algorithm, "kid": "1"}).to_string());
    let stranger = Signer::ec("1").sign(&zitadel.claims(&["weir-change"]));
    let cases = [
        (changed("exp", json!(1_700_000_000)), "expired"),
        (changed("nbf", json!(u64::MAX / 2)), "not valid for another"),
        (changed("iss", json!("https://id.example.org")), "is not from"),
        (changed("aud", json!(["269300000000000002@weir"])), "is not for"),
        (format!("{}.{}.{}", parts[0], BASE64.encode(richer.to_string()), parts[2]), "signature is wrong"),
        (format!("{}.{}.{}", header("HS256"), parts[1], parts[2]), "signature is wrong"),
        (format!("{}.{}.", header("none"), parts[1]), "no signed JSON Web Token"),
        (stranger, "signature is wrong"),
        ("opaque-access-token".to_owned(), "no signed JSON Web Token"),
    ];
    for (token, expected) in cases {
        let (code, said) = refused(agent.change(Some(&token)).await);
        assert_eq!(code, Code::Unauthenticated, "{said}");
        assert!(said.contains(expected), "{expected}: {said}");
        assert!(token.split('.').all(|part| part.len() < 9 || !said.contains(part)), "{said}");
    }
    let general = changed(&format!("urn:zitadel:iam:org:project:{PROJECT}:roles"), Value::Null);
    assert_eq!(refused(agent.change(Some(&general)).await).0, Code::PermissionDenied);
}

#[tokio::test]
async fn where_the_issuer_fails_nobody_comes_in_until_it_answers() {
    let signer = Signer::ec("1");
    let zitadel = Zitadel::start(&[&signer]).await;
    let agent = Agent::start(&zitadel, None, EAGER).await;
    let token = signer.sign(&zitadel.claims(&["weir-change"]));
    for (fault, expected) in [
        (Fault::Down, "answers 503"),
        (Fault::OtherName, "another issuer"),
        (Fault::NoJson, "answers no JSON"),
        (Fault::Endless, "sensible size"),
    ] {
        zitadel.break_down(Some(fault));
        let (code, said) = refused(agent.change(Some(&token)).await);
        assert_eq!(code, Code::Unavailable);
        assert!(said.contains(expected) && said.contains("use the Unix socket"), "{said}");
    }
    zitadel.publish(&[]);
    zitadel.break_down(None);
    assert!(refused(agent.change(Some(&token)).await).1.contains("no keys that sign"));
    zitadel.publish(&[&signer]);
    agent.change(Some(&token)).await.unwrap();
    zitadel.break_down(Some(Fault::Down));
    agent.change(Some(&token)).await.unwrap();
    assert_eq!(agent.gate.reading().failed, 5);
}

#[tokio::test]
async fn an_issuer_that_nobody_knows_is_not_believed() {
    let signer = Signer::ec("1");
    let zitadel = Zitadel::start(&[&signer]).await;
    let agent = Agent::start(&zitadel, None, EAGER).await;
    std::fs::write(agent.ca.path(), Authority::new("stranger").pem).unwrap();
    let token = signer.sign(&zitadel.claims(&["weir-change"]));
    let (code, said) = refused(agent.change(Some(&token)).await);
    assert_eq!(code, Code::Unavailable);
    assert!(said.contains("does not answer") && said.contains("certificate"), "{said}");
    std::fs::write(agent.ca.path(), &zitadel.authority.pem).unwrap();
    agent.change(Some(&token)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn weirctl_shows_its_token_over_tls_alone() {
    let signer = Signer::rsa("1");
    let (zitadel, authority) = (Zitadel::start(&[&signer]).await, Authority::new("agents"));
    let mounted = Mounted::new(&authority.sign(), &authority);
    let identity = Identity::read(Files::in_folder(mounted.path()), Clients::Anybody).unwrap();
    let agent = Agent::start_with(&zitadel, Some("viewer"), EAGER, Some(identity)).await;
    let token = signer.sign(&zitadel.claims(&["viewer"]));
    let file = mounted.path().join("token");
    std::fs::write(&file, format!("{token}\n")).unwrap();
    let ca = mounted.path().join("ca.crt");
    let run = async |change: &dyn Fn(&mut Command)| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weirctl"));
        command.env_remove("WEIR_TOKEN").args(["links", "--server-name", NAME, "--address", &agent.address]);
        command.arg("--ca").arg(&ca);
        change(&mut command);
        let output = command.output().await.unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = run(&|_| {}).await;
    assert_eq!(code, 1);
    assert!(said.contains("with the role viewer; weirctl takes one with --token-file"), "{said}");
    assert_eq!(
        run(&|it| {
            it.arg("--token-file").arg(&file);
        })
        .await,
        (0, String::new())
    );
    assert_eq!(
        run(&|it| {
            it.env("WEIR_TOKEN", &token);
        })
        .await,
        (0, String::new())
    );
    let (code, said) = run(&|it| {
        it.arg("--token-file").arg(Path::new("/nonexistent"));
    })
    .await;
    assert!(code == 3 && said.contains("--token-file: cannot read /nonexistent"), "{said}");
    let (code, said) = run(&|it| {
        it.env("WEIR_TOKEN", " ");
    })
    .await;
    assert!(code == 3 && said.contains("WEIR_TOKEN holds no token"), "{said}");
    let output = Command::new(env!("CARGO_BIN_EXE_weirctl"))
        .args(["links", "--address", "192.0.2.1:9471", "--token-file"])
        .arg(&file)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("not sent to 192.0.2.1:9471 in clear") && !said.contains(&token), "{said}");
}
