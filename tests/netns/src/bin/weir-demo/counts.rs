//! The agents' counts of packets beside the kernel's own.

use anyhow::{Result, bail};
use weir_netns::topology::UPLINK;
use weir_netns::{Agent, Host, Lab};

/// Packets through a node's uplink, as one source counts them.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ledger {
    ingress: u64,
    egress: u64,
}

impl std::ops::Sub for Ledger {
    type Output = Ledger;

    fn sub(self, before: Ledger) -> Ledger {
        Ledger { ingress: self.ingress - before.ingress, egress: self.egress - before.egress }
    }
}

/// The counts of all nodes at one time: the agent's and the kernel's.
pub(crate) struct Counts(Vec<[Ledger; 2]>);

impl Counts {
    /// Read them now.
    pub(crate) fn read(lab: &Lab, agents: &[Agent<'_>]) -> Result<Self> {
        lab.nodes.iter().zip(agents).map(|(node, agent)| both(node, agent)).collect::<Result<_>>().map(Self)
    }

    /// What each source counted since then, a line a node.
    pub(crate) fn since(&self, before: &Self) -> String {
        let pairs = self.0.iter().zip(&before.0).enumerate();
        pairs
            .map(|(index, (now, before))| {
                let [agent, kernel] = [now[0] - before[0], now[1] - before[1]];
                let verdict = if agent == kernel { "" } else { "  DIFFERENT" };
                format!(
                    "  node{}  in {} / {}  out {} / {}{verdict}\n",
                    index + 1,
                    agent.ingress,
                    kernel.ingress,
                    agent.egress,
                    kernel.egress,
                )
            })
            .collect()
    }
}

/// Both counts at a moment in which no packet passed between the readings.
fn both(node: &Host, agent: &Agent<'_>) -> Result<[Ledger; 2]> {
    for _ in 0..100 {
        let before = node.counters(UPLINK)?;
        let scrape = agent.scrape()?;
        if node.counters(UPLINK)? == before {
            let count = |direction| {
                scrape
                    .count("weir_interface_packets_total", &[("interface", UPLINK), ("direction", direction)])
            };
            let agent = Ledger { ingress: count("ingress"), egress: count("egress") };
            return Ok([agent, Ledger { ingress: before.received_packets, egress: before.sent_packets }]);
        }
    }
    bail!("{} never stops talking", node.name())
}
