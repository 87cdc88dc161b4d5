//! A place in the configuration tree, as the words of a `set` command without its value.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A non-empty list of words, such as `interfaces ethernet eth5 vif 10 address`.
///
/// Cloning it is cheap. Words are kept verbatim. Whether a word is one that the router accepts is the schema's question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct ConfigPath(Arc<[String]>);

/// Why words do not make a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// There was no word at all.
    #[error("a configuration path needs at least one word")]
    Empty,
    /// One word was the empty string.
    #[error("word {0} of the configuration path is empty")]
    EmptyWord(usize),
    /// A quote was opened and not closed.
    #[error("the quote opened at byte {0} is not closed")]
    OpenQuote(usize),
}

impl ConfigPath {
    /// The path of one word, from which [`ConfigPath::join`] goes down.
    pub fn root(word: impl Into<String>) -> Self {
        Self([word.into()].into())
    }

    /// This path and one word more.
    #[must_use]
    pub fn join(&self, word: impl ToString) -> Self {
        self.descend([word.to_string()])
    }

    /// This path and several words more.
    #[must_use]
    pub fn descend<W: Into<String>>(&self, words: impl IntoIterator<Item = W>) -> Self {
        Self(self.0.iter().cloned().chain(words.into_iter().map(Into::into)).collect())
    }

    /// Words without the last one; `None` at the top.
    pub fn parent(&self) -> Option<Self> {
        (self.0.len() > 1).then(|| Self(self.0[..self.0.len() - 1].into()))
    }

    /// The words above the last one, and the last one.
    pub(crate) fn split(&self) -> (&[String], &str) {
        (&self.0[..self.0.len().saturating_sub(1)], self.name())
    }

    /// The words with blanks between, unquoted, as the router's own messages have them.
    pub(crate) fn join_blank(&self) -> String {
        self.0.join(" ")
    }

    /// The last word.
    pub fn name(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    /// The path from words that are known to be there: a slice of a tree walk.
    pub(crate) fn from_walk(words: &[String]) -> Self {
        debug_assert!(!words.is_empty());
        Self(words.into())
    }

    /// Whether this path is `prefix` or lies below it.
    pub fn is_within(&self, prefix: &[String]) -> bool {
        self.0.starts_with(prefix)
    }

    /// Whether the path begins with these words.
    pub fn begins(&self, words: &[&str]) -> bool {
        self.0.len() >= words.len() && self.0.iter().zip(words).all(|(a, b)| a == b)
    }
}

impl Deref for ConfigPath {
    type Target = [String];
    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl std::borrow::Borrow<[String]> for ConfigPath {
    fn borrow(&self) -> &[String] {
        &self.0
    }
}

impl TryFrom<Vec<String>> for ConfigPath {
    type Error = PathError;
    fn try_from(words: Vec<String>) -> Result<Self, PathError> {
        match words.iter().position(String::is_empty) {
            Some(at) => Err(PathError::EmptyWord(at)),
            None if words.is_empty() => Err(PathError::Empty),
            None => Ok(Self(words.into())),
        }
    }
}

impl TryFrom<&[&str]> for ConfigPath {
    type Error = PathError;
    fn try_from(words: &[&str]) -> Result<Self, PathError> {
        words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>().try_into()
    }
}

impl From<ConfigPath> for Vec<String> {
    fn from(path: ConfigPath) -> Self {
        path.to_vec()
    }
}

impl FromStr for ConfigPath {
    type Err = PathError;
    fn from_str(text: &str) -> Result<Self, PathError> {
        words(text)?.try_into()
    }
}

impl fmt::Display for ConfigPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, word) in self.0.iter().enumerate() {
            let gap = if i == 0 { "" } else { " " };
            write!(f, "{gap}{}", quoted(word))?;
        }
        Ok(())
    }
}

/// A word or value as it is written in a `set` command: quoted only where it must be.
pub fn quoted(word: &str) -> std::borrow::Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:@%+,=-*!".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', r"'\''")).into()
    }
}

/// Splits a `set`-style line into its words, undoing quotes as a shell does.
pub fn words(text: &str) -> Result<Vec<String>, PathError> {
    let mut all = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' | '"' => quoted_run(c, at, &mut chars, word.get_or_insert_default())?,
            '\\' => word.get_or_insert_default().extend(chars.next().map(|(_, c)| c)),
            c if c.is_whitespace() => all.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    all.extend(word);
    Ok(all)
}

fn quoted_run(
    quote: char,
    opened: usize,
    chars: &mut std::str::CharIndices<'_>,
    word: &mut String,
) -> Result<(), PathError> {
    while let Some((_, c)) = chars.next() {
        match c {
            c if c == quote => return Ok(()),
            '\\' if quote == '"' => word.extend(chars.next().map(|(_, c)| c)),
            c => word.push(c),
        }
    }
    Err(PathError::OpenQuote(opened))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quotes_only_what_needs_it() {
        let path =
            ConfigPath::root("interfaces").descend(["ethernet", "eth5", "description"]).join("lab trunk");
        assert_eq!(path.to_string(), "interfaces ethernet eth5 description 'lab trunk'");
        assert_eq!(path.to_string().parse(), Ok(path));
    }

    #[test]
    fn refuses_nothing_and_empty_words() {
        assert_eq!("  ".parse::<ConfigPath>(), Err(PathError::Empty));
        assert_eq!("a ''".parse::<ConfigPath>(), Err(PathError::EmptyWord(1)));
        assert_eq!("a 'b".parse::<ConfigPath>(), Err(PathError::OpenQuote(2)));
    }

    proptest! {
        #[test]
        fn text_form_keeps_every_word(words in proptest::collection::vec(".+", 1..5)) {
            let path = ConfigPath::try_from(words).unwrap();
            prop_assert_eq!(path.to_string().parse::<ConfigPath>().unwrap(), path);
        }

        #[test]
        fn any_text_is_split_or_refused(text in ".*") {
            let _ = words(&text);
        }
    }
}
