//! Filters: prefix-lists of exactly what may come in and go out, and route-maps that deny the rest.

use super::{Block, Pen, at, marked, tag_name};
use crate::checksum::checksum;
use crate::inputs::ObjectId;
use crate::intent::{Bgp, Policy, PrefixRule, State};
use crate::plan::Owner;
use ipnet::IpNet;
use std::collections::BTreeMap;

pub(super) fn render(pen: &mut Pen<'_>, bgp: &Bgp, object: &ObjectId) {
    for policy in &bgp.policies {
        let name = tag_name(&policy.owner);
        let (accept4, accept6) =
            lists(pen, policy, object, &format!("{name}-in"), policy.accept.iter().copied());
        let exported = policy.export.prefixes.iter().copied().map(PrefixRule::exact);
        let (export4, export6) = lists(pen, policy, object, &format!("{name}-out"), exported);
        let (import, export) = (import(policy), export(policy));
        map(pen, policy, object, &import, matches(&format!("{name}-in"), accept4, accept6), None);
        map(pen, policy, object, &export, matches(&format!("{name}-out"), export4, export6), None);
        // The last choice of all: the route is still there when no other is (local preference 0). It is there before a
        // drain begins: a map that comes with its peer's change is looked at only seconds later (`delay-timer` of FRR).
        let drained = matches(&format!("{name}-in"), accept4, accept6);
        map(pen, policy, object, &drain(policy), drained, Some(0));
    }
}

/// Name of the route-map of what comes in.
pub(super) fn import_of(owner: &Owner, state: State) -> String {
    match state {
        State::InService => format!("{}-in", tag_name(owner)),
        State::Draining | State::ShutDown => format!("{}-drain", tag_name(owner)),
    }
}

/// Name of the route-map of what goes out.
pub(super) fn export_of(owner: &Owner) -> String {
    format!("{}-out", tag_name(owner))
}

fn import(policy: &Policy) -> String {
    import_of(&policy.owner, State::InService)
}

fn drain(policy: &Policy) -> String {
    import_of(&policy.owner, State::Draining)
}

fn export(policy: &Policy) -> String {
    export_of(&policy.owner)
}

/// Makes the lists of both families and says which of them there are.
fn lists(
    pen: &mut Pen<'_>,
    policy: &Policy,
    object: &ObjectId,
    name: &str,
    rules: impl Iterator<Item = PrefixRule>,
) -> (bool, bool) {
    let (four, six): (Vec<_>, Vec<_>) = rules.partition(|rule| matches!(rule.prefix, IpNet::V4(_)));
    for (word, rules) in [("prefix-list", &four), ("prefix-list6", &six)] {
        if rules.is_empty() {
            continue;
        }
        let instances = numbered(rules).into_iter().map(|(number, rule)| (number, permit(&rule)));
        let block =
            Block::new().leaf("description", marked(&policy.owner, None)).instances("rule", instances);
        pen.subtree(object, &policy.owner, &at("policy", &[word, name]), block);
    }
    (!four.is_empty(), !six.is_empty())
}

fn permit(rule: &PrefixRule) -> Block {
    let lengths = rule.lengths;
    Block::new()
        .leaf("action", "permit")
        .leaf("prefix", rule.prefix)
        .maybe("ge", lengths.map(|(ge, _)| ge).filter(|ge| *ge > rule.prefix.prefix_len()))
        .maybe("le", lengths.map(|(_, le)| le))
}

/// Rules that all permit may have any order, so each keeps the number that its content leads to.
fn numbered(rules: &[PrefixRule]) -> BTreeMap<u32, PrefixRule> {
    let mut numbers = BTreeMap::new();
    for rule in rules {
        let mut number = checksum(format!("{rule:?}").as_bytes()) % 65_535 + 1;
        while numbers.contains_key(&number) {
            number = number % 65_535 + 1;
        }
        numbers.insert(number, *rule);
    }
    numbers
}

fn matches(list: &str, four: bool, six: bool) -> Vec<(&'static str, String)> {
    let four = four.then(|| ("ip", list.to_owned()));
    four.into_iter().chain(six.then(|| ("ipv6", list.to_owned()))).collect()
}

/// A route-map that permits what the lists permit. What no rule permits is denied, also where there is no list.
fn map(
    pen: &mut Pen<'_>,
    policy: &Policy,
    object: &ObjectId,
    name: &str,
    lists: Vec<(&'static str, String)>,
    preference: Option<u32>,
) {
    let rules = lists.iter().zip([10, 20]).map(|((family, list), number)| {
        let address = Block::new().block("address", Block::new().leaf("prefix-list", list));
        let rule = Block::new()
            .leaf("action", "permit")
            .block("match", Block::new().block(family, address))
            .block("set", Block::new().maybe("local-preference", preference));
        (number, rule)
    });
    let deny = [(65_535, Block::new().leaf("action", "deny"))];
    let block =
        Block::new().leaf("description", marked(&policy.owner, None)).instances("rule", rules.chain(deny));
    pen.subtree(object, &policy.owner, &at("policy", &["route-map", name]), block);
}
