//! Reads our own model, `model.txt`, into a [`Schema`]. Its first lines say how it is written.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::{Check, Dialect, Rule, Schema};
use crate::config::Kind;

static TEXT: &str = include_str!("model.txt");
static V1_4: LazyLock<Schema> = LazyLock::new(|| read(TEXT, Dialect::V1_4));
static V1_5: LazyLock<Schema> = LazyLock::new(|| read(TEXT, Dialect::V1_5));

pub(super) fn of(dialect: Dialect) -> &'static Schema {
    match dialect {
        Dialect::V1_4 => &V1_4,
        Dialect::V1_5 => &V1_5,
    }
}

struct Line<'a> {
    indent: usize,
    text: &'a str,
}

struct Reader<'a> {
    dialect: Dialect,
    groups: BTreeMap<&'a str, Vec<Line<'a>>>,
}

fn read(text: &str, dialect: Dialect) -> Schema {
    let reader = Reader { dialect, groups: groups(text) };
    Schema { release: dialect.to_string(), roots: reader.group("tree"), complete: false }
}

fn groups(text: &str) -> BTreeMap<&str, Vec<Line<'_>>> {
    let mut groups = BTreeMap::<&str, Vec<Line<'_>>>::new();
    let mut name = "";
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(group) => name = group,
            None => {
                let text = line.trim_start();
                groups.entry(name).or_default().push(Line { indent: line.len() - text.len(), text });
            }
        }
    }
    groups
}

impl Reader<'_> {
    fn group(&self, name: &str) -> BTreeMap<String, Rule> {
        self.groups.get(name).map(|lines| self.rules(lines)).unwrap_or_default()
    }

    /// The rules of lines at one indent, each with the deeper lines that follow it.
    fn rules(&self, mut lines: &[Line<'_>]) -> BTreeMap<String, Rule> {
        let mut rules = BTreeMap::new();
        while let Some((first, rest)) = lines.split_first() {
            let end = rest.iter().position(|line| line.indent <= first.indent).unwrap_or(rest.len());
            let (below, after) = rest.split_at(end);
            lines = after;
            let Some(text) = self.of_dialect(first.text) else { continue };
            match text.strip_prefix('&') {
                Some(group) => rules.extend(self.group(group)),
                None => {
                    let (name, mut rule) = rule(text);
                    rule.children = self.rules(below);
                    rules.insert(name, rule);
                }
            }
        }
        rules
    }

    fn of_dialect<'t>(&self, text: &'t str) -> Option<&'t str> {
        match text.strip_prefix('@').and_then(|text| text.split_once(' ')) {
            Some((dialect, text)) => (dialect == self.dialect.as_str()).then_some(text),
            None => Some(text),
        }
    }
}

/// `name`, `name!`, `name: type`, `name*: type` or `name <type>`, then `; help`, then `= priority script`.
fn rule(text: &str) -> (String, Rule) {
    let (text, script) = text.rsplit_once(" = ").map_or((text, None), |(text, script)| (text, Some(script)));
    let (text, help) = text.split_once(" ; ").map_or((text, None), |(text, help)| (text, Some(help)));
    let (name, kind, types) = if let Some((name, rest)) = text.split_once(" <") {
        (name, Kind::Tag, rest.strip_suffix('>'))
    } else if let Some((name, types)) = text.split_once("*: ") {
        (name, Kind::Multi, Some(types))
    } else if let Some((name, types)) = text.split_once(": ") {
        (name, Kind::Leaf, Some(types))
    } else if let Some(name) = text.strip_suffix('!') {
        (name, Kind::Flag, None)
    } else {
        (text, Kind::Branch, None)
    };
    let (priority, script) = script.and_then(|script| script.split_once(' ')).unzip();
    let mut rule = Rule::new(kind);
    rule.checks = types.filter(|types| *types != "any").map(checks).unwrap_or_default();
    rule.help = help.map(str::to_owned);
    rule.priority = priority.and_then(|n| n.parse().ok());
    rule.script = script.map(str::to_owned);
    (name.to_owned(), rule)
}

fn checks(types: &str) -> Vec<Check> {
    types.split(" | ").map(check).collect()
}

fn check(one: &str) -> Check {
    let between = |open, close| one.strip_prefix(open).and_then(|text: &str| text.strip_suffix(close));
    if let Some(pattern) = between('/', '/') {
        return Check::pattern(pattern);
    }
    if let Some(words) = between('{', '}') {
        return Check::pattern(words.split(',').map(regex::escape).collect::<Vec<_>>().join("|"));
    }
    if let Some((low, high)) = one.split_once("..") {
        return Check::validator("numeric", &format!("--range {low}-{high}"));
    }
    match one {
        "ifname" => Check::pattern(
            "(bond|br|dum|en|ersp|eth|gnv|ifb|ipoe|lan|l2tp|l2tpeth|macsec|peth|ppp|pppoe|pptp|sstp|sstpc|tun|veth|vti|vtun|vxlan|wg|wlan|wwan)[0-9]+([.][0-9]+)?|lo",
        ),
        "ifmatch" => Check::pattern(
            "!?(bond|br|dum|en|ersp|eth|gnv|ifb|lan|l2tp|macsec|peth|ppp|pptp|sstp|tun|veth|vti|vtun|vxlan|wg|wlan|wwan).*|!?lo",
        ),
        "netname" => Check::pattern("[-_a-zA-Z0-9][-_a-zA-Z0-9.+]*"),
        "listname" => Check::pattern("[-_a-zA-Z0-9]+"),
        validator => Check::validator(validator, ""),
    }
}
