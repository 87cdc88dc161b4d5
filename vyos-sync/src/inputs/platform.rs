//! Objects of Harvester, Tinkerbell, KubeVirt and Cluster API, as far as we need them.

use super::core::{Address, field};
use serde::Deserialize;
use serde_json::Value;
use std::net::IpAddr;

/// The annotation in which Harvester keeps a network's subnet and gateway.
const ROUTE_ANNOTATION: &str = "network.harvesterhci.io/route";

/// Harvester's `NetworkAttachmentDefinition`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    /// The VLAN, for a network with exactly one.
    pub vlan: Option<u16>,
    /// The Harvester cluster network.
    pub cluster_network: Option<String>,
    /// MTU of the network in bytes.
    pub mtu: Option<u16>,
    /// Subnet and gateway.
    pub route: Option<VlanRoute>,
}

/// Subnet and gateway of a Harvester network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct VlanRoute {
    /// `manual`: a person gave them. `auto`: Harvester learned them by DHCP.
    pub mode: String,
    /// The subnet.
    pub cidr: String,
    /// The gateway.
    pub gateway: String,
}

impl VlanRoute {
    /// Whether a person gave subnet and gateway, so that they may be taken as intent.
    pub fn is_manual(&self) -> bool {
        self.mode == "manual" && !self.cidr.is_empty()
    }
}

/// Tinkerbell's `Hardware`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hardware {
    /// Interfaces that have DHCP settings.
    pub interfaces: Vec<HardwareInterface>,
}

/// One interface of a Hardware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HardwareInterface {
    /// MAC address as written.
    pub mac: String,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// Its host name.
    pub hostname: Option<String>,
    /// Its VLAN.
    pub vlan: Option<u16>,
    /// TFTP server.
    pub tftp_server: Option<String>,
    /// Boot file.
    pub boot_file: Option<String>,
}

/// KubeVirt's `VirtualMachineInstance`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineInstance {
    /// Its network cards on secondary networks.
    pub nics: Vec<Nic>,
    /// The NetworkAttachmentDefinitions that it names, as `namespace/name` or `name`.
    pub networks: Vec<String>,
}

/// KubeVirt's `VirtualMachine`, which may not run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VirtualMachine {
    /// The NetworkAttachmentDefinitions that it names, as `namespace/name` or `name`.
    pub networks: Vec<String>,
}

/// A network card on a secondary network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// The NetworkAttachmentDefinition as `namespace/name` or `name`.
    pub network: String,
    /// MAC address as written.
    pub mac: String,
    /// Addresses that the guest reports.
    pub addresses: Vec<IpAddr>,
}

/// Cluster API's `Cluster`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapiCluster;

/// Cluster API's `Machine`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CapiMachine {
    /// The cluster it belongs to.
    pub cluster: String,
    /// The node it became.
    pub node: Option<String>,
    /// Its internal addresses.
    pub addresses: Vec<IpAddr>,
    /// Its external addresses. Harvester's provider calls all of a machine's addresses external.
    pub external: Vec<IpAddr>,
    /// What it is to its provider, such as `harvester://UID`.
    pub provider_id: Option<String>,
    /// The reason of its condition `Deleting`: how far its deletion is.
    pub deleting: Option<String>,
}

pub(super) fn attachment(object: &Value) -> Result<Attachment, String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Config {
        vlan: Option<u16>,
        mtu: Option<u16>,
    }
    let config: String = field(object, "/spec/config")?;
    let config: Config = match config.trim() {
        "" => Config::default(),
        text => serde_json::from_str(text).map_err(|error| format!("spec.config: {error}"))?,
    };
    let annotation = object.pointer("/metadata/annotations").and_then(|all| all.get(ROUTE_ANNOTATION));
    let route = annotation.and_then(Value::as_str).map(serde_json::from_str).transpose();
    let labels = object.pointer("/metadata/labels");
    let label = |name| labels.and_then(|all| all.get(name)).and_then(Value::as_str);
    Ok(Attachment {
        vlan: config.vlan.filter(|vlan| *vlan != 0),
        cluster_network: label("network.harvesterhci.io/clusternetwork").map(str::to_owned),
        mtu: config.mtu,
        route: route.map_err(|error| format!("metadata.annotations.{ROUTE_ANNOTATION}: {error}"))?,
    })
}

pub(super) fn hardware(object: &Value) -> Result<Hardware, String> {
    #[derive(Deserialize)]
    struct Interface {
        dhcp: Option<Dhcp>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Dhcp {
        mac: String,
        hostname: Option<String>,
        ip: Option<Ip>,
        vlan_id: Option<String>,
        tftp_server_name: Option<String>,
        boot_file_name: Option<String>,
    }
    #[derive(Deserialize)]
    struct Ip {
        address: Option<Address>,
    }
    let interfaces: Vec<Interface> = field(object, "/spec/interfaces")?;
    let with_dhcp =
        interfaces.into_iter().filter_map(|interface| interface.dhcp).filter(|dhcp| !dhcp.mac.is_empty());
    let read = with_dhcp.map(|dhcp| {
        let vlan = dhcp.vlan_id.filter(|text| !text.is_empty()).map(|text| {
            text.parse().map_err(|_| format!("spec.interfaces.dhcp.vlan_id: `{text}` is not a VLAN id"))
        });
        Ok(HardwareInterface {
            mac: dhcp.mac,
            ip: dhcp.ip.and_then(|ip| Some(ip.address?.0)),
            hostname: dhcp.hostname.filter(|name| !name.is_empty()),
            vlan: vlan.transpose()?,
            tftp_server: dhcp.tftp_server_name,
            boot_file: dhcp.boot_file_name,
        })
    });
    Ok(Hardware { interfaces: read.collect::<Result<_, String>>()? })
}

pub(super) fn machine_instance(object: &Value) -> Result<MachineInstance, String> {
    #[derive(Deserialize)]
    struct Network {
        name: String,
        multus: Option<Multus>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Multus {
        network_name: String,
    }
    let networks: Vec<Network> = field(object, "/spec/networks")?;
    let specs: Vec<VmInterface> = field(object, "/spec/domain/devices/interfaces")?;
    let states: Vec<VmInterface> = field(object, "/status/interfaces")?;
    let nics = networks.into_iter().filter_map(|network| {
        let spec = specs.iter().find(|nic| nic.name == network.name);
        let state = states.iter().find(|nic| nic.name == network.name);
        let mac = spec.and_then(|nic| nic.mac_address.clone()).or_else(|| state?.mac.clone())?;
        let addresses = state.map(VmInterface::addresses).unwrap_or_default();
        Some(Nic { network: network.multus?.network_name, mac, addresses })
    });
    Ok(MachineInstance { nics: nics.collect(), networks: named_networks(object, "/spec/networks") })
}

pub(super) fn virtual_machine(object: &Value) -> VirtualMachine {
    VirtualMachine { networks: named_networks(object, "/spec/template/spec/networks") }
}

/// What of a machine's networks is a NetworkAttachmentDefinition.
fn named_networks(object: &Value, pointer: &str) -> Vec<String> {
    let networks = object.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    let names = networks.filter_map(|network| network.pointer("/multus/networkName")?.as_str());
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VmInterface {
    #[serde(default)]
    name: String,
    mac: Option<String>,
    mac_address: Option<String>,
    #[serde(default)]
    ip_addresses: Vec<String>,
}

impl VmInterface {
    /// A guest may report anything: what is not an address is left out.
    fn addresses(&self) -> Vec<IpAddr> {
        self.ip_addresses
            .iter()
            .filter_map(|text| text.parse::<IpAddr>().ok())
            .map(|ip| ip.to_canonical())
            .collect()
    }
}

pub(super) fn capi_machine(object: &Value) -> Result<CapiMachine, String> {
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default, rename = "type")]
        kind: String,
        #[serde(default)]
        address: String,
    }
    let entries: Vec<Entry> = field(object, "/status/addresses")?;
    let (ips, others): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.kind == "InternalIP");
    let external = others.into_iter().filter(|entry| entry.kind == "ExternalIP");
    let provider_id: Option<String> = field(object, "/spec/providerID")?;
    #[derive(Deserialize)]
    struct State {
        #[serde(default, rename = "type")]
        kind: String,
        #[serde(default)]
        reason: String,
    }
    // v1beta1 kept its conditions elsewhere, and those of v1beta2 below `v1beta2`.
    let mut states: Vec<State> = field(object, "/status/conditions")?;
    states.extend(field::<Vec<State>>(object, "/status/v1beta2/conditions")?);
    let deleting = states.into_iter().rfind(|state| state.kind == "Deleting").map(|state| state.reason);
    Ok(CapiMachine {
        deleting,
        cluster: field(object, "/spec/clusterName")?,
        node: field(object, "/status/nodeRef/name")?,
        addresses: ips
            .into_iter()
            .map(|entry| Ok(Address::try_from(entry.address)?.0))
            .collect::<Result<_, String>>()?,
        // They only help to find the node: what is no address is left out.
        external: external.filter_map(|entry| Some(Address::try_from(entry.address).ok()?.0)).collect(),
        provider_id: provider_id.filter(|id| !id.is_empty()),
    })
}
