//! What paths and values a release of the router accepts.
//!
//! A schema comes from a full schema file ([`Schema::from_json`]) or is our own compact model of the subtrees that we
//! manage ([`Schema::built_in`]).

mod check;
mod file;
mod model;
mod validate;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use check::Check;
pub use file::FileError;
pub use value::judge;

use super::{ConfigPath, Kind, Kinds, Leaf, Tree};

/// The syntax of a release. `V1_5` is also the rolling release's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Dialect {
    /// VyOS 1.4, sagitta.
    #[serde(rename = "1.4")]
    V1_4,
    /// VyOS 1.5, circinus, and rolling.
    #[serde(rename = "1.5")]
    V1_5,
}

/// A tree of what may be configured.
#[derive(Clone, Debug)]
pub struct Schema {
    release: String,
    roots: BTreeMap<String, Rule>,
    /// Whether what it does not know does not exist.
    complete: bool,
}

/// One node of a schema.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What it is. A tag's checks are for the names of its instances, and its children those of one instance.
    pub kind: Kind,
    /// One of these must accept the value; none means any.
    pub checks: Vec<Check>,
    /// Groups of which each must accept the value as a whole.
    pub groups: Vec<Vec<Check>>,
    /// What the router says when none does.
    pub help: Option<String>,
    /// The order of its script in a commit.
    pub priority: Option<u32>,
    /// The script that applies it.
    pub script: Option<String>,
    /// What may be below.
    pub children: BTreeMap<String, Rule>,
}

/// A path or value that the router would refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// There is no such path.
    #[error("`{path}` is not valid in this release")]
    Path {
        /// As it was given, the value included.
        path: ConfigPath,
    },
    /// The value, or the name of a tag instance, is not one that the node accepts.
    #[error("`{value}` at `{path}`: {help}")]
    Value {
        /// The leaf or tag node.
        path: ConfigPath,
        /// What was given.
        value: String,
        /// What each validator said.
        details: Vec<String>,
        /// What the node says of its values.
        help: String,
    },
    /// Quotes cannot be in a value at all.
    #[error("`{value}` at `{path}`: cannot use the {quote} quote character in a value")]
    Quote {
        /// The leaf.
        path: ConfigPath,
        /// What was given.
        value: String,
        /// `single` or `double`.
        quote: &'static str,
    },
}

impl Dialect {
    /// Both, oldest first.
    pub const ALL: [Self; 2] = [Self::V1_4, Self::V1_5];

    /// As it is written in a Router object.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1_4 => "1.4",
            Self::V1_5 => "1.5",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Neither 1.4 nor 1.5.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a release that is known here; use 1.4 or 1.5")]
pub struct UnknownDialect(String);

impl FromStr for Dialect {
    type Err = UnknownDialect;
    fn from_str(text: &str) -> Result<Self, UnknownDialect> {
        Self::ALL.into_iter().find(|d| d.as_str() == text).ok_or_else(|| UnknownDialect(text.to_owned()))
    }
}

impl SchemaError {
    /// The path that it is about.
    pub fn path(&self) -> &ConfigPath {
        match self {
            Self::Path { path } | Self::Value { path, .. } | Self::Quote { path, .. } => path,
        }
    }

    /// The router's own text for it, as `/configure` answers it.
    pub fn router_text(&self) -> String {
        match self {
            Self::Path { path } => {
                format!("Configuration path: [{}] is not valid\n\nSet failed\n", path.join_blank())
            }
            Self::Value { details, help, .. } => {
                let said: String = details.iter().rev().map(|detail| format!("{detail}\n\n")).collect();
                format!("{said}\n\n{help}\nValue validation failed\nSet failed\n")
            }
            Self::Quote { quote, .. } => {
                let mark = if *quote == "single" { '\'' } else { '"' };
                format!(
                    "Cannot use the {quote} quote ({mark}) character in a value string\nValue validation failed\nSet failed\n"
                )
            }
        }
    }
}

impl Schema {
    /// The schema in a file of the format that `vyos-sync schema` writes.
    pub fn from_json(text: &[u8]) -> Result<Self, FileError> {
        file::read(text)
    }

    /// Our own model of the subtrees that we manage. It knows nothing of the others.
    pub fn built_in(dialect: Dialect) -> &'static Self {
        model::of(dialect)
    }

    /// The release that it is of.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// Whether it can say of this path that it does not exist: always for a full schema, else in what it models.
    pub fn covers(&self, path: &[String]) -> bool {
        self.complete || self.rule(&path[..path.len().min(2)]).is_some()
    }

    /// The nodes at the top.
    pub fn roots(&self) -> &BTreeMap<String, Rule> {
        &self.roots
    }

    /// The rule of the node at the path. That of a tag node is also that of its instances.
    pub fn rule(&self, path: &[String]) -> Option<&Rule> {
        self.find(path).map(|(rule, _)| rule)
    }

    /// The script that applies the path at commit, and its priority: the nearest above.
    pub fn script(&self, path: &[String]) -> Option<(&str, u32)> {
        let of = |n| {
            self.rule(&path[..n]).and_then(|rule| Some((rule.script.as_deref()?, rule.priority.unwrap_or(0))))
        };
        (1..=path.len()).rev().find_map(of)
    }

    /// Splits the words of a `set` or `delete` into path and value, and checks the names and the value on the way.
    pub fn resolve(&self, words: &[String], value: Option<&str>) -> Result<Leaf, SchemaError> {
        let all: Vec<String> = words.iter().cloned().chain(value.map(str::to_owned)).collect();
        let unknown = || SchemaError::Path {
            path: ConfigPath::try_from(all.clone()).unwrap_or_else(|_| ConfigPath::root("")),
        };
        let leaf = super::parse::statement(&all, self).ok_or_else(unknown)?;
        self.check(&leaf.path, leaf.value.as_deref())?;
        Ok(leaf)
    }

    /// Checks one statement: its path, the names of the tag instances in it, its value.
    pub fn check(&self, path: &ConfigPath, value: Option<&str>) -> Result<(), SchemaError> {
        let unknown = || SchemaError::Path { path: path.descend(value) };
        let (mut rules, mut at, mut last) = (&self.roots, 0, None);
        while at < path.len() {
            let rule = rules.get(&path[at]).ok_or_else(unknown)?;
            at += 1;
            if let (Kind::Tag, Some(name)) = (rule.kind, path.get(at)) {
                rule.accept(&path[..at], name)?;
                at += 1;
                last = Some((rule, Kind::Instance));
            } else {
                last = Some((rule, rule.kind));
            }
            rules = &rule.children;
        }
        match (last, value) {
            (Some((rule, Kind::Leaf | Kind::Multi)), Some(value)) => rule.accept(path, value),
            (Some((_, Kind::Flag | Kind::Branch | Kind::Instance)), None) => Ok(()),
            _ => Err(unknown()),
        }
    }

    /// Everything in the tree that the router would refuse.
    pub fn validate(&self, tree: &Tree) -> Vec<SchemaError> {
        let mut errors = Vec::new();
        validate::children(tree.children(), &self.roots, &mut Vec::new(), &mut errors);
        errors
    }

    fn find(&self, path: &[String]) -> Option<(&Rule, bool)> {
        let (mut rules, mut found) = (&self.roots, None);
        let mut words = path.iter();
        while let Some(word) = words.next() {
            let rule = rules.get(word)?;
            let instance = rule.kind == Kind::Tag && words.next().is_some();
            found = Some((rule, instance));
            rules = &rule.children;
        }
        found
    }
}

impl Kinds for Schema {
    fn kind(&self, path: &[String]) -> Option<Kind> {
        self.find(path).map(|(rule, instance)| if instance { Kind::Instance } else { rule.kind })
    }
}

impl Rule {
    /// A node of that kind that accepts any value and has no children.
    pub(crate) fn new(kind: Kind) -> Self {
        let (checks, groups, children) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { kind, checks, groups, help: None, priority: None, script: None, children }
    }

    /// Whether the node takes this value, or a tag node this name.
    pub fn accept(&self, path: &[String], value: &str) -> Result<(), SchemaError> {
        let path_of = || ConfigPath::from_walk(path);
        for (mark, quote) in [('\'', "single"), ('"', "double")] {
            if value.contains(mark) {
                return Err(SchemaError::Quote { path: path_of(), value: value.to_owned(), quote });
            }
        }
        self.judge(value).map_err(|details| SchemaError::Value {
            path: path_of(),
            value: value.to_owned(),
            details,
            help: self.help.clone().unwrap_or_else(|| "Invalid value".to_owned()),
        })
    }

    /// Accepted by any of the checks, or by a whole group; otherwise what the checks said.
    fn judge(&self, value: &str) -> Result<(), Vec<String>> {
        if (self.checks.is_empty() && self.groups.is_empty()) || self.checks.iter().any(|c| c.accepts(value))
        {
            return Ok(());
        }
        if self.groups.iter().any(|group| group.iter().all(|c| c.accepts(value))) {
            return Ok(());
        }
        Err(self.checks.iter().filter_map(|check| check.complaint(value)).collect())
    }
}

#[cfg(test)]
mod tests;
