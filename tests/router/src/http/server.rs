//! The way of one request: nginx's checks, the decoding, the machine, the answer.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Form, FromRequest, Multipart, Request, State};
use axum::http::{Method, Response, StatusCode, header};

use super::call::Endpoint;
use super::decode::Encoded;
use super::reply::{detail, nginx};
use super::tls::Link;
use crate::machine::{Answer, Machine};

/// The paths that nginx passes on.
const PREFIXES: [&str; 13] = [
    "/retrieve",
    "/configure",
    "/config-file",
    "/image",
    "/import-pki",
    "/container-image",
    "/generate",
    "/show",
    "/reset",
    "/reboot",
    "/poweroff",
    "/graphql",
    "/docs",
];

/// All of the router's HTTP.
pub(crate) fn app(machine: Arc<Machine>) -> Router {
    Router::new().fallback(entry).layer(DefaultBodyLimit::disable()).with_state(machine)
}

async fn entry(
    State(machine): State<Arc<Machine>>,
    ConnectInfo(link): ConnectInfo<Link>,
    request: Request,
) -> Response<Body> {
    match answer(&machine, request).await {
        Answer::Reply(reply) => reply.respond(machine.release()),
        Answer::Page(status) => nginx(status),
        Answer::Detail(status) => detail(status),
        Answer::Cut => {
            link.cut();
            std::future::pending().await
        }
    }
}

async fn answer(machine: &Arc<Machine>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if !PREFIXES.iter().any(|prefix| path.starts_with(prefix)) {
        return Answer::Page(StatusCode::NOT_FOUND);
    }
    let Ok(body) = axum::body::to_bytes(body, machine.body_limit()).await else {
        return Answer::Page(StatusCode::PAYLOAD_TOO_LARGE);
    };
    if path == "/graphql" {
        return machine.graphql(&body).await;
    }
    let Some(endpoint) = Endpoint::named(&path) else { return Answer::Detail(StatusCode::NOT_FOUND) };
    if parts.method != Method::POST {
        return Answer::Detail(StatusCode::METHOD_NOT_ALLOWED);
    }
    let background = parts.uri.query().is_some_and(|query| query.contains("in_background=true"));
    let encoded = encoded(Request::from_parts(parts, Body::from(body.clone())), body).await;
    machine.serve(endpoint, encoded, background).await
}

/// Told apart by content type; what is no form is JSON, whatever it calls itself.
async fn encoded(request: Request, body: Bytes) -> Encoded {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    if kind.starts_with("multipart/form-data") {
        let fields = multipart(request).await.unwrap_or_default();
        return form(fields);
    }
    if kind.starts_with("application/x-www-form-urlencoded") && !looks_like_json(&body) {
        let fields = Form::<Vec<(String, String)>>::from_request(request, &()).await;
        return form(fields.map(|Form(fields)| fields).unwrap_or_default());
    }
    Encoded::Json(body.to_vec())
}

/// `curl -d '{...}'` says urlencoded and means JSON; the server takes it so.
fn looks_like_json(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"{")
}

async fn multipart(request: Request) -> Option<Vec<(String, String)>> {
    let mut form = Multipart::from_request(request, &()).await.ok()?;
    let mut fields = Vec::new();
    while let Some(field) = form.next_field().await.ok()? {
        let name = field.name().unwrap_or("").to_owned();
        fields.push((name, field.text().await.ok()?));
    }
    Some(fields)
}

fn form(fields: Vec<(String, String)>) -> Encoded {
    let field = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, text)| text.clone());
    Encoded::Form { data: field("data"), key: field("key") }
}
