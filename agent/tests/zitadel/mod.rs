//! A small stand-in of Zitadel: its discovery document, its keys, and access tokens of the shapes that it gives, over TLS.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "a test's part, which may fail")]

use std::sync::{Arc, Mutex};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair as Rsa, KeyPairComponents, PublicKeyComponents};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use weir_tls::{Caller, Clients, Files, Identity, Listener, Protocol};

use super::secret::{Authority, Mounted};

/// The project that our tokens are for.
pub const PROJECT: &str = "269300000000000001";

/// A running issuer.
pub struct Zitadel {
    pub issuer: String,
    pub authority: Authority,
    shared: Arc<Shared>,
    _mounted: Mounted,
}

struct Shared {
    issuer: String,
    state: Mutex<Answers>,
}

/// What it answers.
struct Answers {
    keys: Vec<Value>,
    asked: usize,
    fault: Option<Fault>,
}

/// What may be wrong with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Every page is an error, as while its database is away.
    Down,
    /// It calls itself otherwise.
    OtherName,
    /// A proxy's page in place of the keys.
    NoJson,
    /// More than anybody would read.
    Endless,
}

impl Zitadel {
    pub async fn start(keys: &[&Signer]) -> Self {
        let authority = Authority::new("issuer");
        let mounted = Mounted::new(&authority.sign(), &authority);
        let identity = Identity::read(Files::in_folder(mounted.path()), Clients::Anybody).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("https://localhost:{}", tcp.local_addr().unwrap().port());
        let state = Mutex::new(Answers { keys: Vec::new(), asked: 0, fault: None });
        let shared = Arc::new(Shared { issuer: issuer.clone(), state });
        let pages = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/oauth/v2/keys", get(published))
            .with_state(Arc::clone(&shared))
            .into_make_service_with_connect_info::<Caller>();
        let listener = Listener::new(tcp, Some(identity), Protocol::Pages);
        tokio::spawn(async move { axum::serve(listener, pages).await.unwrap() });
        let zitadel = Self { issuer, authority, shared, _mounted: mounted };
        zitadel.publish(keys);
        zitadel
    }

    /// Publishes these keys and no others.
    pub fn publish(&self, keys: &[&Signer]) {
        self.shared.state.lock().unwrap().keys = keys.iter().map(|key| key.public()).collect();
    }

    pub fn break_down(&self, fault: Option<Fault>) {
        self.shared.state.lock().unwrap().fault = fault;
    }

    /// How often its keys were asked for.
    pub fn asked(&self) -> usize {
        self.shared.state.lock().unwrap().asked
    }

    /// The claims of an access token (type JWT) with these roles, as Zitadel writes them.
    pub fn claims(&self, roles: &[&str]) -> Value {
        let now = jiff::Timestamp::now().as_second();
        let granted =
            roles.iter().map(|role| ((*role).to_owned(), json!({"269300000000000009": "lab.example.org"})));
        let granted = Value::Object(granted.collect());
        json!({
            "iss": self.issuer, "sub": "269300000000000005", "jti": "V2_269300000000000007-at_269300000000000008",
            "aud": ["269300000000000002@weir", "269300000000000003@weir", PROJECT], "client_id": "269300000000000002@weir",
            "iat": now, "nbf": now, "exp": now + 43_200,
            format!("urn:zitadel:iam:org:project:{PROJECT}:roles"): granted,
        })
    }
}

async fn discovery(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let issuer = &shared.issuer;
    let named = match shared.state.lock().unwrap().fault {
        Some(Fault::Down) => return down(),
        Some(Fault::OtherName) => "https://id.example.org",
        _ => issuer.as_str(),
    };
    let document = json!({
        "issuer": named, "jwks_uri": format!("{issuer}/oauth/v2/keys"),
        "authorization_endpoint": format!("{issuer}/oauth/v2/authorize"), "token_endpoint": format!("{issuer}/oauth/v2/token"),
        "response_types_supported": ["code", "id_token", "id_token token"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["EdDSA", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512"],
    });
    (StatusCode::OK, document.to_string())
}

async fn published(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let mut state = shared.state.lock().unwrap();
    state.asked += 1;
    match state.fault {
        Some(Fault::Down) => down(),
        Some(Fault::NoJson) => (StatusCode::OK, "<html>please wait</html>".to_owned()),
        Some(Fault::Endless) => (StatusCode::OK, " ".repeat(1 << 20)),
        _ => (StatusCode::OK, json!({"keys": state.keys}).to_string()),
    }
}

fn down() -> (StatusCode, String) {
    let error = json!({"code": 14, "message": "database is not available", "details": []});
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

/// A key that signs tokens.
pub enum Signer {
    Rsa(String, Box<Rsa>),
    Ec(String, Box<EcdsaKeyPair>),
}

impl Signer {
    /// An RSA key, Zitadel's default kind. It is that of RFC 7515, A.2: ring makes none.
    pub fn rsa(kid: &str) -> Self {
        let part = |text: &str| BASE64.decode(text).unwrap();
        let [n, d, p, q, dp, dq, qi] = RFC_7515.map(part);
        let public_key = PublicKeyComponents { n, e: part("AQAB") };
        let components = KeyPairComponents { public_key, d, p, q, dP: dp, dQ: dq, qInv: qi };
        Self::Rsa(kid.to_owned(), Box::new(Rsa::from_components(&components).unwrap()))
    }

    /// A new P-256 key.
    pub fn ec(kid: &str) -> Self {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random).unwrap();
        Self::Ec(kid.to_owned(), Box::new(pair))
    }

    fn public(&self) -> Value {
        match self {
            Self::Rsa(kid, _) => {
                json!({"use": "sig", "kty": "RSA", "kid": kid, "alg": "RS256", "n": RFC_7515[0], "e": "AQAB"})
            }
            Self::Ec(kid, pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                let [x, y] = [x, y].map(|half| BASE64.encode(half));
                json!({"use": "sig", "kty": "EC", "kid": kid, "alg": "ES256", "crv": "P-256", "x": x, "y": y})
            }
        }
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let (kid, algorithm) = match self {
            Self::Rsa(kid, _) => (kid, "RS256"),
            Self::Ec(kid, _) => (kid, "ES256"),
        };
        let header = json!({"alg": algorithm, "kid": kid, "typ": "JWT"});
        let signed = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(_, pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).unwrap();
                signature
            }
            Self::Ec(_, pair) => pair.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
        };
        format!("{signed}.{}", BASE64.encode(signature))
    }
}

/// n, d, p, q, dp, dq, qi of the key that RFC 7515, A.2 prints.
const RFC_7515: [&str; 7] = [
    "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ",
    "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc",
    "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc",
    "BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCjn12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0",
    "h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnwgjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU",
    "IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U",
];
