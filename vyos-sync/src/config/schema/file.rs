//! Reads a full schema file: `tree` maps names to nodes of `kind` node, tag or leaf.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Check, Rule, Schema};
use crate::config::Kind;

/// The file is not a schema.
#[derive(Debug, thiserror::Error)]
#[error("not a schema file")]
pub struct FileError(#[from] serde_json::Error);

#[derive(Deserialize)]
struct File {
    release: String,
    tree: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    kind: EntryKind,
    #[serde(default)]
    children: BTreeMap<String, Entry>,
    #[serde(default)]
    multi: bool,
    #[serde(default)]
    valueless: bool,
    #[serde(default)]
    constraint: Vec<Constraint>,
    #[serde(default)]
    constraint_and: Vec<Vec<Constraint>>,
    error: Option<String>,
    owner: Option<String>,
    priority: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum EntryKind {
    Node,
    Tag,
    Leaf,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Constraint {
    Regex {
        regex: String,
    },
    Validator {
        validator: String,
        #[serde(default)]
        arg: Option<String>,
    },
}

pub(super) fn read(text: &[u8]) -> Result<Schema, FileError> {
    let file: File = serde_json::from_slice(text)?;
    Ok(Schema { release: file.release, roots: rules(file.tree), complete: true })
}

fn rules(entries: BTreeMap<String, Entry>) -> BTreeMap<String, Rule> {
    entries.into_iter().map(|(name, entry)| (name, rule(entry))).collect()
}

fn rule(entry: Entry) -> Rule {
    Rule {
        kind: match (entry.kind, entry.valueless, entry.multi) {
            (EntryKind::Node, ..) => Kind::Branch,
            (EntryKind::Tag, ..) => Kind::Tag,
            (EntryKind::Leaf, true, _) => Kind::Flag,
            (EntryKind::Leaf, false, true) => Kind::Multi,
            (EntryKind::Leaf, false, false) => Kind::Leaf,
        },
        checks: entry.constraint.into_iter().map(check).collect(),
        groups: entry
            .constraint_and
            .into_iter()
            .map(|group| group.into_iter().map(check).collect())
            .collect(),
        help: entry.error,
        priority: entry.priority,
        script: entry.owner,
        children: rules(entry.children),
    }
}

fn check(constraint: Constraint) -> Check {
    match constraint {
        Constraint::Regex { regex } => Check::pattern(regex),
        Constraint::Validator { validator, arg } => {
            Check::validator(&validator, arg.as_deref().unwrap_or_default())
        }
    }
}
