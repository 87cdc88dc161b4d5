//! Metrics of the listener's certificate, read at the scrape.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};
use weir_tls::Reading;

/// Registers the metrics of a certificate that is read in this way.
pub fn of_certificate(registry: &mut Registry, read: impl Fn() -> Reading + Send + Sync + 'static) {
    registry.sub_registry_with_prefix("vyos_sync").register_collector(Box::new(Certificate(read)));
}

struct Certificate<F>(F);

impl<F> fmt::Debug for Certificate<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate")
    }
}

impl<F: Fn() -> Reading + Send + Sync + 'static> Collector for Certificate<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Reading { not_after, newest_refused, swapped, refused, failed } = (self.0)();
        let ends = ConstGauge::new(not_after.as_secs_f64());
        let help = "When the listener's certificate ends";
        let unit = Some(&Unit::Seconds);
        let family =
            encoder.encode_descriptor("tls_certificate_expiry_timestamp", help, unit, ends.metric_type())?;
        ends.encode(family)?;
        let older = ConstGauge::new(i64::from(newest_refused));
        let help = "1 while the files hold a certificate that cannot be used";
        let family = encoder.encode_descriptor("tls_certificate_refused", help, None, older.metric_type())?;
        older.encode(family)?;
        let help = "New certificates that were found in the files";
        let mut family = encoder.encode_descriptor(
            "tls_certificates_read",
            help,
            None,
            ConstCounter::new(0_u64).metric_type(),
        )?;
        for (result, number) in [("taken", swapped), ("refused", refused)] {
            ConstCounter::new(number).encode(family.encode_family(&[("result", result)])?)?;
        }
        let failures = ConstCounter::new(failed);
        let help = "TLS handshakes that failed";
        let family =
            encoder.encode_descriptor("tls_handshakes_failed", help, None, failures.metric_type())?;
        failures.encode(family)
    }
}
