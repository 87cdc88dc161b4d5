//! The HTTP face: nginx's prefixes and pages, the API server's encodings, checks and answers.

pub(crate) mod call;
pub(crate) mod decode;
pub(crate) mod python;
pub(crate) mod reply;
pub(crate) mod server;
pub(crate) mod tls;
