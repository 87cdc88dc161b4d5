//! Policies and what the node knows, made one set of rules. One bad rule never takes the others with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::guards;
use super::kind::{ActionKind, DatapathPolicy, Peers, RuleSpec, Silence, Unparsable, Way};
use super::problem::{Problem, Reason};
use super::rule::{Action, Addresses, Rule, RuleSet, Vital};
use super::values;
use super::world::World;
use crate::model::address::{Direction, IfIndex};

/// Prefixes in one set.
pub const LARGEST_SET: usize = 1_000_000;

/// A policy with the files that it names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The policy.
    pub policy: DatapathPolicy,
    /// Texts of its sets' files by the name in the policy, or why one cannot be read.
    #[serde(default)]
    pub files: BTreeMap<String, Result<String, String>>,
}

/// Reads all policies.
pub fn read(sources: &[Source], world: &World) -> (RuleSet, Vec<Problem>) {
    let mut ordered: Vec<&Source> = sources.iter().collect();
    ordered.sort_by_key(|source| (source.policy.spec.priority, source.policy.metadata.name.clone()));
    let (mut set, mut problems, mut names) = (RuleSet::default(), Vec::new(), BTreeSet::new());
    for source in ordered {
        let mut reader = Reader { source, world, problems: &mut problems, sets: BTreeMap::new() };
        let name = &source.policy.metadata.name;
        if !is_name(name) {
            reader.tell(
                "metadata.name",
                Reason::NotAPolicy,
                format!("{name:?} is no name; write up to 63 of a-z, 0-9 and -"),
            );
        } else if !names.insert(name.clone()) {
            reader.tell(
                "metadata.name",
                Reason::DuplicateName,
                "another policy has the same name; rename one".into(),
            );
        } else if reader.is_for_node() {
            reader.add_to(&mut set);
        }
    }
    let most = weir_ebpf::rules::RULES as usize;
    for rule in set.rules.drain(most.min(set.rules.len())..) {
        problems.push(Problem {
            policy: rule.policy.clone(),
            field: format!("rule {}", rule.name),
            reason: Reason::TooManyRules,
            text: format!("a node takes {most} rules; join rules by sets of prefixes or ports"),
        });
    }
    super::check::check(&set, &mut problems);
    (set, problems)
}

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    !name.is_empty() && name.len() <= 63 && name.chars().all(plain)
}

/// Reads one policy.
pub(super) struct Reader<'a> {
    source: &'a Source,
    world: &'a World,
    problems: &'a mut Vec<Problem>,
    sets: BTreeMap<String, Option<Arc<Vec<IpNet>>>>,
}

/// Why a rule is left out.
pub(super) struct LeftOut;

impl<'a> Reader<'a> {
    pub(super) fn policy(&self) -> &'a DatapathPolicy {
        &self.source.policy
    }

    pub(super) fn tell(&mut self, field: &str, reason: Reason, text: String) {
        let (policy, field) = (self.source.policy.metadata.name.clone(), field.to_owned());
        self.problems.push(Problem { policy, field, reason, text });
    }

    pub(super) fn bad<T>(&mut self, field: &str, value: Result<T, String>) -> Result<T, LeftOut> {
        value.map_err(|text| {
            self.tell(field, Reason::BadValue, text);
            LeftOut
        })
    }

    fn is_for_node(&mut self) -> bool {
        let Some(selector) = &self.policy().spec.node_selector else { return true };
        if !selector.names.is_empty()
            && !selector.names.iter().any(|pattern| values::fits(pattern, &self.world.node))
        {
            return false;
        }
        match &self.world.labels {
            _ if selector.match_labels.is_empty() => true,
            Some(labels) => selector.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value)),
            None => {
                let text =
                    "the node's labels are not known; give --manifests with its Node, or select by names"
                        .to_owned();
                self.tell("nodeSelector.matchLabels", Reason::UnknownLabels, text);
                false
            }
        }
    }

    fn add_to(&mut self, set: &mut RuleSet) {
        let spec = &self.policy().spec;
        set.drop_unparsable |= spec.unparsable == Unparsable::Deny;
        set.open_when_silent |= spec.when_agent_is_silent == Silence::Open;
        self.read_sets();
        for (n, vital) in spec.failsafe.iter().enumerate() {
            let direction =
                if vital.direction == Way::Egress { Direction::Egress } else { Direction::Ingress };
            match vital.protocol.to_ascii_uppercase().as_str() {
                "TCP" => set.failsafe.push(Vital { protocol: 6, port: vital.port, direction }),
                "UDP" => set.failsafe.push(Vital { protocol: 17, port: vital.port, direction }),
                other => {
                    let text = format!("{other:?} has no ports that the failsafe knows; write TCP or UDP");
                    self.tell(&format!("failsafe[{n}].protocol"), Reason::BadValue, text);
                }
            }
        }
        let interfaces = self.interfaces();
        let before = set.rules.len();
        // Guards of links come first: they tell who may send at all. Those of virtual addresses come last, so that rules
        // can let more through.
        set.rules.extend(guards::link(self));
        let mut names = BTreeSet::new();
        for (n, rule) in spec.rules.iter().enumerate() {
            let field = format!("rules[{n}]");
            if !is_name(&rule.name) {
                let text = format!("{:?} is no name; write up to 63 of a-z, 0-9 and -", rule.name);
                self.tell(&format!("{field}.name"), Reason::BadValue, text);
            } else if !names.insert(&rule.name) {
                self.tell(
                    &format!("{field}.name"),
                    Reason::DuplicateName,
                    format!("another rule is called {}", rule.name),
                );
            } else if let Ok(rule) = self.rule(&field, rule) {
                set.rules.push(rule);
            }
        }
        set.rules.extend(guards::mesh(self));
        set.rules.extend(guards::storage(self));
        set.rules.extend(guards::vip(self));
        if let Some(interfaces) = interfaces {
            set.rules[before..].iter_mut().for_each(|rule| rule.interfaces = Some(interfaces.clone()));
        }
    }

    /// The interfaces of the policy; `None` for all.
    fn interfaces(&mut self) -> Option<Vec<IfIndex>> {
        let patterns = &self.policy().spec.interfaces;
        for (n, pattern) in patterns.iter().enumerate() {
            if !self.world.links.values().any(|name| values::fits(pattern, name)) {
                let text = format!("no interface is called {pattern} now; the rules wait for one");
                self.tell(&format!("interfaces[{n}]"), Reason::NoSuchInterface, text);
            }
        }
        let wanted = |name: &String| patterns.iter().any(|pattern| values::fits(pattern, name));
        let found = self.world.links.iter().filter(|(_, name)| wanted(name)).map(|(index, _)| *index);
        (!patterns.is_empty()).then(|| found.collect())
    }

    fn read_sets(&mut self) {
        for (n, set) in self.policy().spec.sets.iter().enumerate() {
            let field = format!("sets[{n}]");
            if self.sets.contains_key(&set.name) {
                self.tell(
                    &format!("{field}.name"),
                    Reason::DuplicateName,
                    format!("another set is called {}", set.name),
                );
                continue;
            }
            let nets = self.set(&field, &set.cidrs, set.file.as_deref());
            self.sets.insert(set.name.clone(), nets.map(Arc::new));
        }
    }

    fn set(&mut self, field: &str, cidrs: &[String], file: Option<&str>) -> Option<Vec<IpNet>> {
        let mut nets = self.prefixes(&format!("{field}.cidrs"), cidrs.iter().map(String::as_str));
        if let Some(name) = file {
            let field = format!("{field}.file");
            let unread = Err("the file was not read".to_owned());
            match self.source.files.get(name).unwrap_or(&unread) {
                Ok(text) => {
                    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
                    nets.extend(self.prefixes(&field, lines.filter(|line| !line.is_empty())));
                }
                Err(why) => {
                    self.tell(&field, Reason::UnreadableSet, format!("{name} cannot be read: {why}"));
                    return None;
                }
            }
        }
        if nets.len() > LARGEST_SET {
            let text =
                format!("{} prefixes; a set takes {LARGEST_SET}, so join neighbours or split it", nets.len());
            self.tell(field, Reason::EnormousSet, text);
            return None;
        }
        if nets.is_empty() {
            self.tell(field, Reason::EmptySet, "the set has no prefix, and matches nothing".to_owned());
        }
        Some(nets)
    }

    /// Reads prefixes; bad ones are told and left out. Of odd ones the first is told, with how many there are.
    pub(super) fn prefixes<'t>(&mut self, field: &str, texts: impl Iterator<Item = &'t str>) -> Vec<IpNet> {
        let (mut nets, mut odd) = (Vec::new(), BTreeMap::<Reason, (String, usize)>::new());
        for text in texts {
            match values::prefix(text) {
                Ok((net, None)) => nets.push(net),
                Ok((net, Some(reason))) => {
                    odd.entry(reason).or_insert_with(|| (format!("{text} is taken as {net}"), 0)).1 += 1;
                    nets.push(net);
                }
                Err(why) => {
                    odd.entry(Reason::BadValue).or_insert_with(|| (format!("{why}; it is left out"), 0)).1 +=
                        1
                }
            }
        }
        for (reason, (text, times)) in odd {
            let more = if times > 1 { format!(" (and {} more like it)", times - 1) } else { String::new() };
            self.tell(field, reason, format!("{text}{more}"));
        }
        nets
    }

    fn pools(&mut self, field: &str, names: &[String]) -> Result<Vec<IpNet>, LeftOut> {
        let mut nets = Vec::new();
        for name in names {
            match self.world.pools.as_ref().map(|pools| pools.get(name)) {
                Some(Some(pool)) => nets.extend(pool),
                found => {
                    let why = match found {
                        Some(_) => "the cluster has no such pool",
                        None => "no cluster is known; give --manifests, or name virtual addresses",
                    };
                    self.tell(field, Reason::UnknownPool, format!("{name}: {why}"));
                    return Err(LeftOut);
                }
            }
        }
        Ok(nets)
    }

    pub(super) fn world(&self) -> &'a World {
        self.world
    }

    pub(super) fn peers(&mut self, field: &str, peers: &Peers) -> Result<Arc<Addresses>, LeftOut> {
        let pools = self.pools(&format!("{field}.pools"), &peers.pools)?;
        let given = peers.cidrs.len() + peers.sets.len() + peers.pools.len() + usize::from(peers.vips);
        let mut inside = self.prefixes(&format!("{field}.cidrs"), peers.cidrs.iter().map(String::as_str));
        if inside.is_empty() && !peers.cidrs.is_empty() {
            return Err(LeftOut);
        }
        for (n, name) in peers.sets.iter().enumerate() {
            match self.sets.get(name) {
                Some(Some(nets)) => inside.extend(nets.iter()),
                Some(None) => return Err(LeftOut),
                None => {
                    let text = format!("the policy has no set {name}");
                    self.tell(&format!("{field}.sets[{n}]"), Reason::UnknownSet, text);
                    return Err(LeftOut);
                }
            }
        }
        inside.extend(pools);
        if peers.vips {
            inside.extend(self.world.vips.iter().map(|vip| IpNet::from(*vip)));
        }
        let except = self.prefixes(&format!("{field}.except"), peers.except.iter().map(String::as_str));
        if except.len() < peers.except.len() {
            // Without a part of what is excepted the rule would be for more than was meant.
            return Err(LeftOut);
        }
        Ok(Arc::new(Addresses { inside: (given > 0).then_some(inside), except }))
    }

    fn rule(&mut self, field: &str, spec: &RuleSpec) -> Result<Rule, LeftOut> {
        let direction = if spec.direction == Way::Egress { Direction::Egress } else { Direction::Ingress };
        let action = self.action(field, spec)?;
        let matches = &spec.matches;
        let mut rule = Rule::new(&self.policy().metadata.name, &spec.name, spec.mode, direction, action);
        if spec.reject && (action, direction) != (Action::Deny, Direction::Ingress) {
            let text = "only Deny on ingress can reject; leave reject out".to_owned();
            self.bad::<()>(&format!("{field}.reject"), Err(text))?;
        }
        rule.reject = spec.reject;
        let field = format!("{field}.match");
        if let Some(peers) = &matches.source {
            rule.source = Some(self.peers(&format!("{field}.source"), peers)?);
        }
        if let Some(peers) = &matches.destination {
            rule.destination = Some(self.peers(&format!("{field}.destination"), peers)?);
        }
        if let Some(word) = &matches.protocol {
            rule.protocol = Some(self.bad(&format!("{field}.protocol"), values::protocol(word))?);
        }
        for (name, words, into) in [
            ("ports", &matches.ports, &mut rule.ports),
            ("sourcePorts", &matches.source_ports, &mut rule.source_ports),
        ] {
            for word in words {
                into.push(self.bad(&format!("{field}.{name}"), values::ports(word))?);
            }
        }
        rule.icmp_types.clone_from(&matches.icmp_types);
        rule.vlans = self.vlans(&format!("{field}.vlans"), &matches.vlans)?;
        for name in &matches.classes {
            let Some(number) = self.world.classes.get(name) else {
                let text = format!("there is no traffic class {name}");
                self.tell(&format!("{field}.classes"), Reason::UnknownClass, text);
                return Err(LeftOut);
            };
            rule.classes.push(*number);
        }
        if let Some(flags) = &matches.tcp_flags {
            rule.flags = Some(self.bad(&format!("{field}.tcpFlags"), values::flags(flags))?);
        }
        self.bad(&field, fits_protocol(&rule))?;
        Ok(rule)
    }

    pub(super) fn vlans(&mut self, field: &str, vlans: &[u16]) -> Result<Vec<Option<u16>>, LeftOut> {
        let one = |vlan: &u16| match vlan {
            0 => Ok(None),
            1..=4094 => Ok(Some(*vlan)),
            other => Err(format!("{other} is no VLAN identifier; 1 to 4094 are, and 0 for untagged packets")),
        };
        let read: Result<Vec<_>, _> = vlans.iter().map(one).collect();
        self.bad(field, read)
    }

    fn action(&mut self, field: &str, spec: &RuleSpec) -> Result<Action, LeftOut> {
        let missing = |what: &str| Err(format!("{:?} needs {what}", spec.action));
        let action = match (spec.action, &spec.rate, spec.dscp) {
            (ActionKind::Allow, ..) => Ok(Action::Allow),
            (ActionKind::Deny, ..) => Ok(Action::Deny),
            (ActionKind::Rate, Some(rate), _) => values::budget(rate, false).map(Action::Rate),
            (ActionKind::Pace, Some(_), _) if spec.direction == Way::Ingress => {
                Err("only packets to the wire can be paced; write direction: Egress".to_owned())
            }
            (ActionKind::Pace, Some(rate), _) => values::budget(rate, true).map(Action::Pace),
            (ActionKind::Mark, _, Some(dscp @ 0..=63)) => Ok(Action::Mark(dscp)),
            (ActionKind::Mark, _, Some(dscp)) => Err(format!("{dscp} is no DSCP; 0 to 63 are")),
            (ActionKind::Mark, _, None) => missing("dscp"),
            (ActionKind::Rate | ActionKind::Pace, None, _) => missing("rate"),
        };
        self.bad(field, action)
    }
}

/// Ports, ICMP types and flags belong to protocols.
fn fits_protocol(rule: &Rule) -> Result<(), String> {
    let has_ports = !rule.ports.is_empty() || !rule.source_ports.is_empty();
    if has_ports && rule.protocol.is_some_and(|protocol| !matches!(protocol, 6 | 17 | 132)) {
        return Err("only TCP, UDP and SCTP have ports".to_owned());
    }
    if !rule.icmp_types.is_empty() && !matches!(rule.protocol, Some(1 | 58)) {
        return Err("icmpTypes needs protocol ICMP or ICMPv6".to_owned());
    }
    if rule.flags.is_some() && rule.protocol != Some(6) {
        return Err("tcpFlags needs protocol TCP".to_owned());
    }
    Ok(())
}
