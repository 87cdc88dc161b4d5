//! A small, strict reader of OpenMetrics text: enough to refuse what a scraper would.
#![allow(unreachable_pub, reason = "a module of tests")]

use std::collections::{BTreeMap, BTreeSet};

/// A family as read.
#[derive(Debug, Default, PartialEq)]
pub struct Family {
    pub kind: String,
    pub help: String,
    pub unit: String,
    /// Samples by name and labels, in the order of the text.
    pub samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// Reads a whole exposition.
pub fn parse(text: &str) -> Result<BTreeMap<String, Family>, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("the text does not end with # EOF")?;
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in body.lines() {
        if let Some(metadata) = line.strip_prefix("# ") {
            let mut parts = metadata.splitn(3, ' ');
            let [Some(word), Some(name), Some(rest)] = [parts.next(), parts.next(), parts.next()] else {
                return Err(format!("cut short: {line}"));
            };
            if name != current {
                if families.contains_key(name) {
                    return Err(format!("family {name} comes twice"));
                }
                name.clone_into(&mut current);
            }
            let family = families.entry(current.clone()).or_default();
            let slot = match word {
                "HELP" => &mut family.help,
                "TYPE" => &mut family.kind,
                "UNIT" => &mut family.unit,
                _ => return Err(format!("unknown metadata: {line}")),
            };
            if !slot.is_empty() {
                return Err(format!("twice: {line}"));
            }
            rest.clone_into(slot);
        } else {
            let family =
                families.get_mut(&current).ok_or_else(|| format!("sample before its family: {line}"))?;
            family.samples.push(sample(line)?);
        }
    }
    families.iter().try_for_each(|(name, family)| check(name, family))?;
    Ok(families)
}

fn sample(line: &str) -> Result<Sample, String> {
    let bad = || format!("not a sample: {line}");
    let (name, labels, value) = match line.split_once('{') {
        Some((name, rest)) => {
            let (labels, value) = read_labels(rest).ok_or_else(bad)?;
            (name, labels, value)
        }
        None => {
            let (name, value) = line.split_once(' ').ok_or_else(bad)?;
            (name, BTreeMap::new(), value)
        }
    };
    let value = value.trim_start_matches(' ').parse().map_err(|_| bad())?;
    Ok(Sample { name: name.to_owned(), labels, value })
}

fn read_labels(text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    loop {
        let (name, after) = rest.split_once("=\"")?;
        let plain = |c: char| c.is_ascii_lowercase() || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            return None;
        }
        let (value, after) = read_value(after)?;
        if labels.insert(name.to_owned(), value).is_some() {
            return None;
        }
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None => return after.strip_prefix("} ").map(|value| (labels, value)),
        }
    }
}

fn read_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                escaped @ ('"' | '\\') => escaped,
                _ => return None,
            }),
            plain => value.push(plain),
        }
    }
    None
}

fn check(name: &str, family: &Family) -> Result<(), String> {
    let err = |text: &str| Err(format!("{name}: {text}"));
    if family.help.is_empty() || family.kind.is_empty() {
        return err("no HELP or no TYPE");
    }
    if !family.unit.is_empty() && !name.ends_with(&format!("_{}", family.unit)) {
        return err("the name does not end with the unit");
    }
    if family.samples.is_empty() {
        return err("no samples");
    }
    let suffixes: &[&str] = match family.kind.as_str() {
        "counter" => &["_total"],
        "gauge" => &[""],
        "histogram" => &["_bucket", "_count", "_sum"],
        "info" => &["_info"],
        _ => return err("unknown type"),
    };
    let mut seen = BTreeSet::new();
    for sample in &family.samples {
        let suffix = sample.name.strip_prefix(name).filter(|suffix| suffixes.contains(suffix));
        if suffix.is_none() {
            return err(&format!("sample {} does not fit a {}", sample.name, family.kind));
        }
        if !seen.insert((sample.name.clone(), sample.labels.clone())) {
            return err(&format!("series twice: {sample:?}"));
        }
        if family.kind == "counter" && !(sample.value >= 0.0 && sample.value.is_finite()) {
            return err("a counter below zero or without end");
        }
    }
    if family.kind == "histogram" { histogram(name, family) } else { Ok(()) }
}

fn histogram(name: &str, family: &Family) -> Result<(), String> {
    let mut series: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
    for sample in family.samples.iter().filter(|sample| sample.name.ends_with("_bucket")) {
        let mut labels = sample.labels.clone();
        let bound = labels.remove("le").ok_or(format!("{name}: a bucket without le"))?;
        let bound: f64 = bound.replace("+Inf", "inf").parse().map_err(|_| format!("{name}: le {bound}"))?;
        series.entry(labels).or_default().push((bound, sample.value));
    }
    for (labels, buckets) in series {
        let rising = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        let count = family.samples.iter().find(|s| s.name.ends_with("_count") && s.labels == labels);
        let last = buckets.last().copied();
        if !rising || last.is_none_or(|(bound, n)| bound.is_finite() || count.is_none_or(|c| c.value != n)) {
            return Err(format!("{name}{labels:?}: buckets do not add up"));
        }
    }
    Ok(())
}
