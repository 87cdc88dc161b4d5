//! One test of a value: a pattern or one of the router's validators.

use std::sync::{Arc, OnceLock};

use regex::Regex;

use super::value::judge;

/// One test of a value.
#[derive(Clone, Debug)]
pub enum Check {
    /// The whole value matches.
    Pattern(Pattern),
    /// The router's validator of that name, with its arguments.
    Validator {
        /// Such as `ipv4-address`.
        name: String,
        /// Such as `--range 1-4094`.
        arg: String,
    },
}

/// A pattern in the syntax of PCRE, compiled when first used.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: String,
    compiled: Arc<OnceLock<Option<Compiled>>>,
}

#[derive(Debug)]
struct Compiled {
    regex: Regex,
    not_before: Option<char>,
    not_after: Option<char>,
}

impl Check {
    /// A test that the whole value matches.
    pub fn pattern(source: impl Into<String>) -> Self {
        Self::Pattern(Pattern { source: source.into(), compiled: Arc::default() })
    }

    /// A test by a validator, written as `name --with arguments`.
    pub fn validator(name: &str, arg: &str) -> Self {
        let (name, more) = name.split_once(' ').unwrap_or((name, ""));
        Self::Validator { name: name.to_owned(), arg: format!("{more} {arg}").trim().to_owned() }
    }

    /// Whether the value passes. What cannot be judged away from the router passes.
    pub fn accepts(&self, value: &str) -> bool {
        match self {
            Self::Pattern(pattern) => pattern.accepts(value),
            Self::Validator { name, arg } => judge(name, arg, value).is_ok(),
        }
    }

    /// What the router's validator says of a value that does not pass. Patterns say nothing.
    pub fn complaint(&self, value: &str) -> Option<String> {
        match self {
            Self::Pattern(_) => None,
            Self::Validator { name, arg } => judge(name, arg, value).err().filter(|said| !said.is_empty()),
        }
    }

    /// Whether a pattern is one that can be judged here; validators always are, if only by letting all pass.
    pub fn is_understood(&self) -> bool {
        match self {
            Self::Pattern(pattern) => pattern.compiled().is_some(),
            Self::Validator { .. } => true,
        }
    }
}

impl Pattern {
    fn accepts(&self, value: &str) -> bool {
        let Some(compiled) = self.compiled() else { return true };
        compiled.regex.is_match(value)
            && compiled.not_before.is_none_or(|c| !value.starts_with(c))
            && compiled.not_after.is_none_or(|c| !value.ends_with(c))
    }

    fn compiled(&self) -> Option<&Compiled> {
        self.compiled.get_or_init(|| compile(&self.source)).as_ref()
    }
}

/// The only look-arounds in use are "not after a dot" at the end and "not before a hyphen" at the beginning.
fn compile(source: &str) -> Option<Compiled> {
    let (end, start) = ("(?<!\\.)", "(?!-)");
    let not_after = source.contains(end).then_some('.');
    let not_before = source.contains(start).then_some('-');
    let plain = source.replace(end, "").replace(start, "").replace("\\/", "/").replace("\\@", "@");
    let regex = Regex::new(&format!(r"\A(?:{plain})\z")).ok()?;
    Some(Compiled { regex, not_before, not_after })
}
