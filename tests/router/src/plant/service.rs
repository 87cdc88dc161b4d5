//! The daemons that serve a part of the configuration each: what it is given, and whether it runs.

use std::collections::BTreeMap;
use std::path::Path;

use vyos_sync::config::Tree;

use super::daemon::Daemon;
use super::{Failure, Namespace, advert, dhcp, dhcp6, dns, relay};

/// One part and its daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Service {
    Dhcp,
    Dhcp6,
    Relay,
    Relay6,
    Advert,
    Dns,
}

const ALL: [Service; 6] =
    [Service::Advert, Service::Relay, Service::Dhcp, Service::Dhcp6, Service::Relay6, Service::Dns];

impl Service {
    fn part(self) -> &'static str {
        match self {
            Self::Dhcp => "service dhcp-server",
            Self::Dhcp6 => "service dhcpv6-server",
            Self::Relay => "service dhcp-relay",
            Self::Relay6 => "service dhcpv6-relay",
            Self::Advert => "service router-advert",
            Self::Dns => "service dns forwarding",
        }
    }

    /// What the daemon is told, or nothing where it has nothing to do.
    fn configuration(self, tree: &Tree, folder: &Path) -> Option<String> {
        match self {
            Self::Dhcp => dhcp::configuration(tree, folder),
            Self::Dhcp6 => dhcp6::configuration(tree, folder),
            Self::Relay => relay::arguments4(tree),
            Self::Relay6 => relay::arguments6(tree),
            Self::Advert => advert::configuration(tree),
            Self::Dns => dns::configuration(tree),
        }
    }

    async fn start(self, namespace: &Namespace, folder: &Path, told: &str) -> Result<Daemon, String> {
        match self {
            Self::Dhcp => dhcp::start(namespace, folder, dhcp::Family::V4, told).await,
            Self::Dhcp6 => dhcp::start(namespace, folder, dhcp::Family::V6, told).await,
            Self::Relay | Self::Relay6 => relay::start(namespace, folder, told).await,
            Self::Advert => advert::start(namespace, folder, told).await,
            Self::Dns => dns::start(namespace, folder, told).await,
        }
    }
}

/// The daemons that run, each with what it was told.
#[derive(Debug, Default)]
pub(super) struct Services(BTreeMap<Service, (String, Daemon)>);

impl Services {
    /// Any change restarts a daemon, as on the real router; one that is told the same is left alone.
    pub(super) async fn apply(&mut self, namespace: &Namespace, folder: &Path, tree: &Tree) -> Vec<Failure> {
        let mut failures = Vec::new();
        for service in ALL {
            let wanted = service.configuration(tree, folder);
            if self.0.get(&service).map(|(told, _)| told) == wanted.as_ref() {
                continue;
            }
            if let Some((_, daemon)) = self.0.remove(&service) {
                daemon.stop().await;
            }
            let Some(told) = wanted else { continue };
            match service.start(namespace, folder, &told).await {
                Ok(daemon) => drop(self.0.insert(service, (told, daemon))),
                Err(text) => failures.push(Failure::of(service.part(), text)),
            }
        }
        failures
    }

    /// Ends them all.
    pub(super) async fn stop(&mut self) {
        for (_, daemon) in std::mem::take(&mut self.0).into_values() {
            daemon.stop().await;
        }
    }
}
