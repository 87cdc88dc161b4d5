//! The certificate of the agent's TCP listeners.

use std::fmt;

use weir_tls::Reading;

use super::family::{Family, Kind, Measure, Page};

const EXPIRY: Family = Family {
    name: "tls_certificate_expiry_timestamp",
    kind: Kind::Gauge,
    unit: Measure::Seconds,
    labels: &[],
    help: "When the certificate ends that the TCP listeners show, in seconds since 1970",
    advice: "Near: cert-manager does not renew it, or the Secret is mounted by `subPath`. See the Certificate's events.",
};
const REFUSED: Family = Family {
    name: "tls_certificate_refused",
    kind: Kind::Gauge,
    unit: Measure::Number,
    labels: &[],
    help: "1 while the files hold a certificate or key that cannot be used, and the one before is still shown",
    advice: "The agent's log says what is wrong. Issue the certificate again before the old one ends.",
};
const READ: Family = Family {
    name: "tls_certificates_read",
    kind: Kind::Counter,
    unit: Measure::Number,
    labels: &["result"],
    help: "New certificates that were found in the files, by whether they were taken",
    advice: "Compare with `weir_tls_certificate_refused`, which tells how it is now.",
};
const FAILED: Family = Family {
    name: "tls_handshakes_failed",
    kind: Kind::Counter,
    unit: Measure::Number,
    labels: &[],
    help: "TLS handshakes that failed on the TCP listeners",
    advice: "Clients that trust another authority, show a wrong certificate, or speak no TLS. `WEIR_LOG=debug` names them.",
};

/// In the order in which they are written.
pub(super) const FAMILIES: &[&Family] = &[&EXPIRY, &REFUSED, &READ, &FAILED];

/// Writes the families of this file, where the listeners have a certificate.
pub(super) fn write(page: &mut Page<'_>, reading: Option<&Reading>) -> fmt::Result {
    let Some(Reading { not_after, newest_refused, swapped, refused, failed }) = reading else {
        return Ok(());
    };
    page.gauge(&EXPIRY, [([], not_after.as_secs())])?;
    page.gauge(&REFUSED, [([], u64::from(*newest_refused))])?;
    page.counter(&READ, [(["taken".into()], *swapped), (["refused".into()], *refused)])?;
    page.counter(&FAILED, [([], *failed)])
}
