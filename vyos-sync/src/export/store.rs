//! Metrics of the store of secrets, read at the scrape.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::bao::{Reading, Trouble};

/// Registers the metrics of a store that is read in this way.
pub fn of_store(registry: &mut Registry, read: impl Fn() -> Reading + Send + Sync + 'static) {
    registry.sub_registry_with_prefix("vyos_sync").register_collector(Box::new(Store(read)));
}

struct Store<F>(F);

impl<F> fmt::Debug for Store<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

impl<F: Fn() -> Reading + Send + Sync + 'static> Collector for Store<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Reading { reachable, asked } = (self.0)();
        if let Some(reachable) = reachable {
            let gauge = ConstGauge::new(i64::from(reachable));
            let help = "1 where every secret that is wanted of the store was read";
            let family =
                encoder.encode_descriptor("secret_store_reachable", help, None, gauge.metric_type())?;
            gauge.encode(family)?;
        }
        let kind = ConstCounter::new(0_u64).metric_type();
        let help = "Requests sent to the store of secrets, by how they ended";
        let mut family = encoder.encode_descriptor("secret_store_requests", help, None, kind)?;
        for (result, number) in Trouble::WORDS.into_iter().zip(asked) {
            ConstCounter::new(number).encode(family.encode_family(&[("result", result)])?)?;
        }
        Ok(())
    }
}
