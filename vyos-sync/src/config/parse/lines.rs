//! Lines of `set` commands. Where the path ends and the value begins, only a schema can tell.

use crate::config::path::{PathError, words};
use crate::config::{ConfigPath, Kind, Kinds, Tree, tree::Leaf};

/// What is wrong with one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// Not a list of words.
    #[error(transparent)]
    Words(#[from] PathError),
    /// Not a `set` command.
    #[error("only `set` is understood here")]
    Verb,
    /// The schema does not know the path, or a value is missing or too much.
    #[error("the path is not valid")]
    Path,
    /// A value and children at one node.
    #[error(transparent)]
    Shape(#[from] crate::config::ShapeError),
}

/// A line that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct LineError {
    /// Counted from 1.
    pub line: usize,
    /// Why.
    pub fault: LineFault,
}

/// The tree that these `set` commands make. Empty lines and lines with `#` are skipped; `set` itself may be missing.
pub fn set_lines(text: &str, kinds: &impl Kinds) -> Result<Tree, LineError> {
    let mut tree = Tree::new();
    for (i, line) in text.lines().enumerate() {
        if !line.trim().is_empty() && !line.trim_start().starts_with('#') {
            set_line(&mut tree, line, kinds).map_err(|fault| LineError { line: i + 1, fault })?;
        }
    }
    Ok(tree)
}

fn set_line(tree: &mut Tree, line: &str, kinds: &impl Kinds) -> Result<(), LineFault> {
    let mut words = words(line)?;
    match words.first().map(String::as_str) {
        Some("set") => drop(words.remove(0)),
        Some("delete" | "comment") => return Err(LineFault::Verb),
        _ => {}
    }
    let Leaf { path, value } = statement(&words, kinds).ok_or(LineFault::Path)?;
    Ok(tree.apply(&crate::config::Command::Set { path, value }, kinds)?)
}

/// Splits words into path and value, as the schema says. `None` where the schema knows no such statement.
pub fn statement(words: &[String], kinds: &impl Kinds) -> Option<Leaf> {
    for n in 1..=words.len() {
        let (path, rest) = words.split_at(n);
        match (kinds.kind(path)?, rest) {
            (Kind::Leaf | Kind::Multi, [value]) => return leaf(path, Some(value.clone())),
            (Kind::Flag | Kind::Branch | Kind::Instance, []) => return leaf(path, None),
            (Kind::Leaf | Kind::Multi | Kind::Flag, _) | (Kind::Tag, []) => return None,
            (Kind::Branch | Kind::Instance | Kind::Tag, _) => {}
        }
    }
    None
}

fn leaf(path: &[String], value: Option<String>) -> Option<Leaf> {
    Some(Leaf { path: ConfigPath::try_from(path.to_vec()).ok()?, value })
}
