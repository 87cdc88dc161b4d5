//! Who was refused at the gRPC interface over TCP.

use std::fmt;

use super::family::{Family, Kind, Measure, Page};
use crate::model::access::Refusal;
use crate::oidc::Reading;

const REFUSED: Family = Family {
    name: "grpc_calls_refused",
    kind: Kind::Counter,
    unit: Measure::Number,
    labels: &["reason"],
    help: "Calls over TCP that were refused for their token, or for want of one",
    advice: "The caller was told the way out. `no_keys`: the issuer cannot be asked, and nobody comes in; the agent's log says why.",
};
const FETCHES: Family = Family {
    name: "oidc_key_fetches",
    kind: Kind::Counter,
    unit: Measure::Number,
    labels: &["result"],
    help: "Times that the issuer of tokens was asked for its keys",
    advice: "`failed` rises: the keys that are known serve for an hour, then nobody is let in. The agent's log names the cause.",
};

/// In the order in which they are written.
pub(super) const FAMILIES: &[&Family] = &[&REFUSED, &FETCHES];

/// Writes the families of this file, where tokens are asked for.
pub(super) fn write(page: &mut Page<'_>, reading: Option<&Reading>) -> fmt::Result {
    let Some(Reading { refused, fetched, failed }) = reading else { return Ok(()) };
    let words = Refusal::WORDS.into_iter().zip(refused);
    page.counter(&REFUSED, words.map(|(word, number)| ([word.into()], *number)))?;
    page.counter(&FETCHES, [(["ok".into()], *fetched), (["failed".into()], *failed)])
}
