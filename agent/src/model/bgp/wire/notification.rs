//! NOTIFICATION (RFC 4271 section 4.5), its hard reset (RFC 8538) and the operator's words in it (RFC 9003).

use super::Malformed;
use super::octets::Octets;
use super::open::plain;

/// Code 6.
const CEASE: u8 = 6;
/// Subcode of [`CEASE`]: the words of another NOTIFICATION follow.
const HARD_RESET: u8 = 9;
/// Subcodes of [`CEASE`] that may come with the operator's words: administrative shutdown and reset.
const WITH_WORDS: [u8; 2] = [2, 4];

/// NOTIFICATION.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// What went wrong; of a hard reset, what is inside.
    pub code: u8,
    /// What exactly.
    pub subcode: u8,
    /// Whether it asks the peer not to keep routes (RFC 8538).
    pub hard_reset: bool,
    /// The operator's own words, without control characters.
    pub text: Option<String>,
}

impl Notification {
    pub(super) fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut octets = Octets::new(body);
        let (mut code, mut subcode) = (octets.u8("error code")?, octets.u8("error subcode")?);
        let hard_reset = (code, subcode) == (CEASE, HARD_RESET);
        // A hard reset without contents stands for itself.
        if hard_reset && octets.len() >= 2 {
            (code, subcode) = (octets.u8("inner error code")?, octets.u8("inner error subcode")?);
        }
        let text = if code == CEASE && WITH_WORDS.contains(&subcode) { words(octets) } else { None };
        Ok(Self { code, subcode, hard_reset, text })
    }

    /// Whether it says that the sender heard nothing for the hold time.
    pub fn hold_timer_expired(&self) -> bool {
        self.code == 4
    }

    /// Whether it ends one of two connections that both ends opened at once (RFC 4271 section 6.8).
    pub fn collision(&self) -> bool {
        (self.code, self.subcode) == (CEASE, 7)
    }
}

/// Words whose length does not fit are no words; the NOTIFICATION counts all the same.
fn words(mut octets: Octets<'_>) -> Option<String> {
    let length = octets.u8("length of the words").ok()?;
    let text = plain(octets.take(length.into(), "words").ok()?);
    (!text.is_empty()).then_some(text)
}

/// What a code and subcode say (IANA's registry of BGP error codes).
pub fn describe(code: u8, subcode: u8) -> String {
    let what = match code {
        1 => "message header error",
        2 => "OPEN message error",
        3 => "UPDATE message error",
        4 => "hold timer expired",
        5 => "finite state machine error",
        CEASE => "cease",
        7 => "ROUTE-REFRESH message error",
        8 => "send hold timer expired",
        _ => return format!("error {code}/{subcode}"),
    };
    match detail(code, subcode) {
        Some(detail) => format!("{what}: {detail}"),
        None if subcode == 0 => what.to_owned(),
        None => format!("{what}: subcode {subcode}"),
    }
}

fn detail(code: u8, subcode: u8) -> Option<&'static str> {
    let details: &[&str] = match code {
        1 => &["connection not synchronized", "bad message length", "bad message type"],
        2 => &[
            "unsupported version number",
            "bad peer AS",
            "bad BGP identifier",
            "unsupported optional parameter",
            "authentication failure",
            "unacceptable hold time",
            "unsupported capability",
            "deprecated",
            "deprecated",
            "deprecated",
            "role mismatch",
        ],
        3 => &[
            "malformed attribute list",
            "unrecognized well-known attribute",
            "missing well-known attribute",
            "attribute flags error",
            "attribute length error",
            "invalid ORIGIN attribute",
            "AS routing loop",
            "invalid NEXT_HOP attribute",
            "optional attribute error",
            "invalid network field",
            "malformed AS_PATH",
        ],
        5 => &[
            "unexpected message in OpenSent",
            "unexpected message in OpenConfirm",
            "unexpected message in Established",
        ],
        CEASE => &[
            "maximum number of prefixes reached",
            "administrative shutdown",
            "peer de-configured",
            "administrative reset",
            "connection rejected",
            "other configuration change",
            "connection collision resolution",
            "out of resources",
            "hard reset",
            "BFD down",
        ],
        7 => &["invalid message length"],
        _ => &[],
    };
    subcode.checked_sub(1).and_then(|at| details.get(usize::from(at)).copied())
}
