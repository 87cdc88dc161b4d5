//! What the router answers: the API's three fields, nginx's pages, FastAPI's own words.

use axum::body::Body;
use axum::http::{Response, StatusCode, header};
use serde_json::{Value, json};

use crate::release::Release;

/// An answer of the API, before it becomes bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    /// 200 with data.
    Done(Value),
    /// Anything else with a reason.
    Refused(Refusal),
    /// 200 with a body of its own shape, as `/graphql` and `/info` give.
    Plain(Value),
}

/// A status and the text of `error`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The text, as the server has it before any escaping.
    pub(crate) error: String,
}

/// The text of a read that the server could not do.
pub(crate) const INTERNAL: &str = "An internal error occured. Check the logs for details.";

impl Refusal {
    pub(crate) fn bad(error: impl Into<String>) -> Self {
        Self { status: 400, error: error.into() }
    }

    pub(crate) fn internal() -> Self {
        Self { status: 500, error: INTERNAL.to_owned() }
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Reply {
    pub(crate) fn none() -> Self {
        Self::Done(Value::Null)
    }

    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Done(Value::String(text.into()))
    }

    /// The bytes that this release sends for it.
    pub(crate) fn respond(&self, release: Release) -> Response<Body> {
        match self {
            Self::Done(data) => api(200, &json!({"success": true, "data": data, "error": null})),
            Self::Refused(Refusal { status, error }) => {
                let error = if release == Release::V1_5 { escape(error) } else { error.clone() };
                api(*status, &json!({"success": false, "error": error, "data": null}))
            }
            Self::Plain(body) => respond(200, "application/json", body.to_string()),
        }
    }
}

/// A page of nginx, which stands before the API server.
pub(crate) fn nginx(status: StatusCode) -> Response<Body> {
    let line = format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or(""));
    let line = line.replace("Payload Too Large", "Request Entity Too Large");
    let page = format!(
        "<html>\r\n<head><title>{line}</title></head>\r\n<body>\r\n<center><h1>{line}</h1></center>\r\n\
         <hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n"
    );
    respond(status.as_u16(), "text/html", page)
}

/// FastAPI's own answer to a path or method that it does not have.
pub(crate) fn detail(status: StatusCode) -> Response<Body> {
    let text = status.canonical_reason().unwrap_or("");
    respond(status.as_u16(), "application/json", json!({"detail": text}).to_string())
}

fn api(status: u16, body: &Value) -> Response<Body> {
    respond(status, "text/html; charset=utf-8", body.to_string())
}

fn respond(status: u16, kind: &str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(kind) = kind.parse() {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_1_5_escapes_errors() {
        assert_eq!(escape("a<b> & \"c\""), "a&lt;b&gt; &amp; \"c\"");
    }
}
