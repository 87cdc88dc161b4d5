//! Rules that cannot do what they seem to.

use ipnet::IpNet;

use super::failsafe;
use super::problem::{Problem, Reason};
use super::rule::{Action, Addresses, Rule, RuleSet};

/// Address sets larger than this are only compared by identity.
const COMPARED: usize = 4_096;

/// Tells what is odd about a set of valid rules. All of them stay.
pub(super) fn check(set: &RuleSet, problems: &mut Vec<Problem>) {
    let vital = failsafe::all(&set.failsafe);
    for (n, rule) in set.rules.iter().enumerate() {
        let mut tell = |reason, text| {
            let (policy, field) = (rule.policy.clone(), format!("rule {}", rule.name));
            problems.push(Problem { policy, field, reason, text });
        };
        let empty = |addresses: &Option<std::sync::Arc<Addresses>>| {
            addresses.as_ref().is_some_and(|addresses| addresses.is_empty())
        };
        if empty(&rule.source) || empty(&rule.destination) || families_differ(rule) {
            tell(Reason::MatchesNothing, "no packet has such addresses".to_owned());
            continue;
        }
        if rule.interfaces.as_ref().is_some_and(Vec::is_empty) {
            // Told once for the policy.
            continue;
        }
        if let Some(before) = set.rules[..n].iter().find(|before| before.is_final() && covers(before, rule)) {
            let text = format!("{} decides on every packet of this rule before it", before.full_name());
            tell(Reason::Shadowed, text);
        }
        // The mesh guard is about all ports but one: nobody named those of the failsafe.
        let drops =
            matches!(rule.action, Action::Deny | Action::Rate(_)) && !rule.past_failsafe && !rule.pairs;
        let hit = vital.iter().find(|vital| {
            drops
                && vital.direction == rule.direction
                && rule.protocol.is_none_or(|protocol| protocol == vital.protocol)
                && rule.ports.iter().any(|ports| ports.contains(&vital.port))
        });
        if let Some(vital) = hit {
            let name = if vital.protocol == 6 { "TCP" } else { "UDP" };
            let text = format!(
                "packets to {name} port {} pass whatever this rule says: the failsafe saves them",
                vital.port
            );
            tell(Reason::ContradictsFailsafe, text);
        }
    }
}

/// IPv4 on one side and IPv6 on the other.
fn families_differ(rule: &Rule) -> bool {
    let families = |addresses: &Option<std::sync::Arc<Addresses>>| {
        let nets = addresses.as_ref().and_then(|addresses| addresses.inside.as_ref());
        nets.map_or((true, true), |nets| {
            (
                nets.iter().any(|net| matches!(net, IpNet::V4(_))),
                nets.iter().any(|net| matches!(net, IpNet::V6(_))),
            )
        })
    };
    let ((from4, from6), (to4, to6)) = (families(&rule.source), families(&rule.destination));
    !(from4 && to4 || from6 && to6)
}

/// Whether every packet of `later` is one of `first`.
fn covers(first: &Rule, later: &Rule) -> bool {
    let ranges = |wide: &[std::ops::RangeInclusive<u16>], narrow: &[std::ops::RangeInclusive<u16>]| {
        wide.is_empty()
            || !narrow.is_empty()
                && narrow.iter().all(|n| wide.iter().any(|w| w.contains(n.start()) && w.contains(n.end())))
    };
    fn list<T: PartialEq>(wide: &[T], narrow: &[T]) -> bool {
        wide.is_empty() || !narrow.is_empty() && narrow.iter().all(|one| wide.contains(one))
    }
    first.claimants.is_none()
        && later.claimants.is_none()
        && first.direction == later.direction
        && (first.protocol.is_none() || first.protocol == later.protocol)
        && ranges(&first.ports, &later.ports)
        && ranges(&first.source_ports, &later.source_ports)
        && list(&first.icmp_types, &later.icmp_types)
        && list(&first.classes, &later.classes)
        && (first.flags.is_none() || first.flags == later.flags)
        && !first.other_vlans
        && (!later.other_vlans || first.vlans.is_empty())
        && list(&first.vlans, &later.vlans)
        && first.interfaces.as_ref().is_none_or(|wide| {
            later.interfaces.as_ref().is_some_and(|narrow| narrow.iter().all(|one| wide.contains(one)))
        })
        && addresses(first.source.as_deref(), later.source.as_deref())
        && addresses(first.destination.as_deref(), later.destination.as_deref())
}

fn addresses(wide: Option<&Addresses>, narrow: Option<&Addresses>) -> bool {
    let Some(wide) = wide else { return true };
    let Some(narrow) = narrow else { return false };
    if std::ptr::eq(wide, narrow) {
        return true;
    }
    let (Some(outer), Some(inner)) = (&wide.inside, &narrow.inside) else { return false };
    if !wide.except.is_empty() || outer.len() > COMPARED || inner.len() > COMPARED {
        return false;
    }
    inner.iter().all(|net| outer.iter().any(|outer| outer.contains(net)))
}
