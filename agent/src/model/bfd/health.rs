//! Whether what the agent measures of the node speaks against using it, with hysteresis.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::packet::Diagnostic;
use crate::model::address::IfIndex;
use crate::model::probe::GatewayProbe;

/// For how long things must be bad before peers are told.
const BAD_FOR: Duration = Duration::from_secs(3);
/// For how long things must be good again before sessions may come up.
const GOOD_FOR: Duration = Duration::from_secs(10);

/// What was measured just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Packets pass.
    Good,
    /// No gateway answers, or no uplink has a carrier.
    Bad,
    /// Nothing is known: nothing changes.
    None,
}

/// Answers and losses of each gateway's link-layer probes so far.
pub type Tally = BTreeMap<(IfIndex, IpAddr), (u64, u64)>;

/// What the probes of the gateways say since the last look, which `before` remembers: good when any gateway answered, bad when
/// probes were lost and none was answered, or no uplink has a carrier.
pub fn evidence<'a>(
    before: &mut Tally,
    gateways: impl Iterator<Item = &'a GatewayProbe>,
    carrier: Carrier,
) -> Evidence {
    let mut verdict = Evidence::None;
    for gateway in gateways {
        let answered: u64 = gateway.link_layer.latency.buckets.iter().sum();
        let now = (answered, gateway.link_layer.lost);
        let then = before.insert((gateway.interface, gateway.gateway), now).unwrap_or(now);
        if now.0 > then.0 {
            verdict = Evidence::Good;
        } else if now.1 > then.1 && verdict == Evidence::None {
            verdict = Evidence::Bad;
        }
    }
    match carrier {
        Carrier::Some => verdict,
        Carrier::None => Evidence::Bad,
    }
}

/// Whether an uplink with a gateway has a carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// One has, or none is known.
    Some,
    /// None has.
    None,
}

/// Turns evidence into a verdict that does not flutter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hysteresis {
    /// Since when all evidence spoke against the verdict.
    against: Option<Duration>,
    down: bool,
}

impl Hysteresis {
    /// Takes in evidence; the reason to tell to peers while the verdict is against the node.
    pub fn see(&mut self, evidence: Evidence, now: Duration) -> Option<Diagnostic> {
        let contradicts = match evidence {
            Evidence::None => return self.verdict(),
            Evidence::Good => self.down,
            Evidence::Bad => !self.down,
        };
        if !contradicts {
            self.against = None;
            return self.verdict();
        }
        let since = *self.against.get_or_insert(now);
        let needed = if self.down { GOOD_FOR } else { BAD_FOR };
        if now.saturating_sub(since) >= needed {
            self.down = !self.down;
            self.against = None;
        }
        self.verdict()
    }

    /// The path is behind this node as the peer sees it.
    fn verdict(&self) -> Option<Diagnostic> {
        self.down.then_some(Diagnostic::CONCATENATED_PATH_DOWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::probe::Probe;

    fn gateway(last: u8, answered: u64, lost: u64) -> GatewayProbe {
        let mut link_layer = Probe { sent: answered + lost, lost, ..Probe::default() };
        link_layer.latency.buckets = vec![answered, 0];
        let interface = IfIndex::try_from(2).unwrap();
        let gateway = IpAddr::from([10, 0, 0, last]);
        GatewayProbe { interface, gateway, link_layer, echo: Probe::default(), path_mtu: None }
    }

    #[test]
    fn one_answer_outweighs_losses_and_what_is_still_on_its_way_is_neither() {
        let mut before = Tally::new();
        let mut look = |gateways: &[GatewayProbe]| evidence(&mut before, gateways.iter(), Carrier::Some);
        assert_eq!(
            look(&[gateway(1, 5, 1), gateway(2, 9, 0)]),
            Evidence::None,
            "the first look knows no before"
        );
        let mut asked = gateway(1, 5, 1);
        asked.link_layer.sent += 1;
        assert_eq!(look(&[asked, gateway(2, 9, 0)]), Evidence::None);
        assert_eq!(look(&[gateway(1, 5, 2), gateway(2, 9, 1)]), Evidence::Bad);
        assert_eq!(look(&[gateway(1, 5, 3), gateway(2, 10, 1)]), Evidence::Good);
        assert_eq!(evidence(&mut before, [].iter(), Carrier::None), Evidence::Bad);
    }

    #[test]
    fn only_what_lasts_changes_the_verdict() {
        let (mut hysteresis, at) = (Hysteresis::default(), Duration::from_secs);
        assert_eq!(hysteresis.see(Evidence::Bad, at(0)), None);
        assert_eq!(hysteresis.see(Evidence::Bad, at(2)), None);
        assert_eq!(hysteresis.see(Evidence::Good, at(3)), None, "one good look begins anew");
        assert_eq!(hysteresis.see(Evidence::Bad, at(4)), None);
        assert_eq!(hysteresis.see(Evidence::None, at(9)), None, "ignorance is no evidence");
        let down = Some(Diagnostic::CONCATENATED_PATH_DOWN);
        assert_eq!(hysteresis.see(Evidence::Bad, at(7)), down);
        assert_eq!(hysteresis.see(Evidence::Good, at(8)), down);
        assert_eq!(hysteresis.see(Evidence::Good, at(17)), down);
        assert_eq!(hysteresis.see(Evidence::Bad, at(18)), down);
        assert_eq!(hysteresis.see(Evidence::Good, at(19)), down);
        assert_eq!(hysteresis.see(Evidence::Good, at(29)), None);
    }
}
