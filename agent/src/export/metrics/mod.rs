//! Metrics in the OpenMetrics text format, read afresh at every scrape.
//!
//! Nothing is copied into a registry: a [`Scrape`] is what was read just now, and its series are written from there. So a
//! series ends when its object does, and a source that failed leaves its series out instead of showing zeros.

mod access;
mod bfd;
mod bgp;
mod cluster;
mod exposition;
mod family;
mod kernel;
mod link;
mod mesh;
mod monitor;
mod own;
mod policy;
mod probe;
pub mod reference;
mod tcp;
mod tls;
mod traffic;
mod vip;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;

/// The words for states and kinds, the same in metrics and in the gRPC interface.
pub(crate) mod words {
    pub(crate) use super::bgp::peer_word as bgp_peer;
    pub(crate) use super::kernel::{layer_word as layer, neighbour_word as neighbour};
    pub(crate) use super::link::{
        counters as link_counters, drops as link_drops, kind_word as kind, state_word as state, watched,
    };
    pub(crate) use super::own::{feature_words as feature, hook_words as hook};
    pub(crate) use super::probe::link_layer_kind as link_layer;
}

pub use exposition::Exposition;
pub use family::{Family, Kind, Measure, word};

use crate::model::host::HostCounters;
use crate::model::loss::Losses;
use crate::model::measurement::Measurement;
use crate::model::policy::PolicyStatus;
use crate::state::Snapshot;
use family::Page;

/// The content type of [`encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All that one scrape shows. What could not be read is `None`, and its series are left out.
#[derive(Debug, Default)]
pub struct Scrape {
    /// What the agent knows.
    pub snapshot: Arc<Snapshot>,
    /// The datapath's counters.
    pub measurement: Option<Measurement>,
    /// The kernel's own counters.
    pub host: Option<HostCounters>,
    /// Where interfaces lost packets since the first scrape.
    pub loss: Option<Losses>,
    /// What rules did, where there are any.
    pub policy: Option<PolicyStatus>,
    /// How the agent's own serving goes.
    pub serving: Serving,
}

/// How the agent's own serving goes.
#[derive(Clone, Debug, Default)]
pub struct Serving {
    /// By source: how long it took to read just now, and how often it failed so far.
    pub sources: Vec<SourceReading>,
    /// Scrapes answered so far, this one included.
    pub scrapes: u64,
    /// Scrapes refused because too many ran already.
    pub refused: u64,
    /// gRPC streams being served now.
    pub streams: u64,
    /// Intervals that gRPC streams left out because their clients were slow.
    pub skipped: u64,
    /// The agent's resident memory in octets, where it can be read.
    pub resident_bytes: Option<u64>,
    /// CPU time that the agent has used, where it can be read.
    pub cpu_time: Option<Duration>,
    /// How the certificate of the listeners does, where they have one.
    pub tls: Option<weir_tls::Reading>,
    /// Who was refused, where tokens are asked for.
    pub access: Option<crate::oidc::Reading>,
}

/// How reading one source went.
#[derive(Clone, Debug)]
pub struct SourceReading {
    /// The source.
    pub source: &'static str,
    /// How long it took just now, if it was read.
    pub took: Option<Duration>,
    /// How often it failed so far.
    pub errors: u64,
}

/// All families that a scrape may show, in the order in which they are written.
pub fn families() -> impl Iterator<Item = &'static Family> {
    [
        traffic::FAMILIES,
        tcp::FAMILIES,
        link::FAMILIES,
        monitor::FAMILIES,
        kernel::FAMILIES,
        probe::FAMILIES,
        mesh::FAMILIES,
        policy::FAMILIES,
        bgp::FAMILIES,
        bfd::FAMILIES,
        vip::FAMILIES,
        cluster::FAMILIES,
        own::FAMILIES,
        tls::FAMILIES,
        access::FAMILIES,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// Writes a scrape as OpenMetrics text. Pure: the same scrape gives the same text.
pub fn encode(scrape: &Arc<Scrape>) -> String {
    let mut registry = Registry::with_prefix("weir");
    registry.register_collector(Box::new(Arc::clone(scrape)));
    let mut page = String::with_capacity(64 * 1024);
    // Writing to a String cannot fail, and no collector fails by itself.
    let _ = text::encode(&mut page, &registry);
    page
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(encoder);
        if let Some(measurement) = &self.measurement {
            traffic::write(&mut page, &self.snapshot, measurement)?;
            tcp::write(&mut page, measurement)?;
        }
        link::write(&mut page, &self.snapshot, self.host.as_ref())?;
        monitor::write(&mut page, &self.snapshot)?;
        kernel::write(&mut page, self)?;
        probe::write(&mut page, &self.snapshot)?;
        mesh::write(&mut page, &self.snapshot)?;
        if let Some(status) = &self.policy {
            policy::write(&mut page, status)?;
        }
        bgp::write(&mut page, &self.snapshot)?;
        bfd::write(&mut page, &self.snapshot)?;
        vip::write(&mut page, &self.snapshot)?;
        cluster::write(&mut page, &self.snapshot)?;
        own::write(&mut page, self)?;
        tls::write(&mut page, self.serving.tls.as_ref())?;
        access::write(&mut page, self.serving.access.as_ref())
    }
}
