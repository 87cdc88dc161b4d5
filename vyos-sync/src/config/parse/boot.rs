//! The text of `config.boot`: curly braces, quotes, comments, and the version trailer of the last lines.

use std::collections::BTreeMap;

use super::MAX_DEPTH;
use crate::config::{ConfigPath, Node, Tree};

/// A `config.boot`. Comments are not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// The configuration.
    pub tree: Tree,
    /// Who wrote it.
    pub trailer: Trailer,
}

/// The last lines of the file. A file without them is migrated from the oldest syntax when a router loads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trailer {
    /// The syntax version of each component, such as `dhcp-server` 11.
    pub versions: BTreeMap<String, u32>,
    /// The release's own name, such as `1.5-rolling-202410210007`.
    pub release: Option<String>,
}

/// Why a text is not a `config.boot`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct BootError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: &'static str,
}

/// The configuration in the text of a `config.boot`.
pub fn boot(text: &str) -> Result<Boot, BootError> {
    let mut reader =
        Reader { rest: text, line: 1, at: Vec::new(), opened: Vec::new(), boot: Boot::default() };
    while reader.step()? {}
    match reader.opened.is_empty() {
        true => Ok(reader.boot),
        false => Err(reader.error("a `{` is not closed")),
    }
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
    at: Vec<String>,
    /// How many words each open brace has put into `at`.
    opened: Vec<usize>,
    boot: Boot,
}

impl<'a> Reader<'a> {
    /// Reads one thing; false at the end.
    fn step(&mut self) -> Result<bool, BootError> {
        self.blanks(true);
        match self.rest.as_bytes() {
            [] => return Ok(false),
            [b'/', b'*', ..] => self.comment()?,
            [b'/', b'/', ..] => self.line_comment(),
            [b'}', ..] => self.close()?,
            [b'{', ..] => return Err(self.error("a `{` without a name")),
            _ => self.statement()?,
        }
        Ok(true)
    }

    fn statement(&mut self) -> Result<(), BootError> {
        let mut words = Vec::new();
        loop {
            self.blanks(false);
            match self.rest.bytes().next() {
                Some(b'{') => {
                    self.skip(1);
                    return self.open(words);
                }
                None | Some(b'\n' | b'}') => return self.leaf(words),
                Some(_) => words.push(self.word()?),
            }
        }
    }

    fn open(&mut self, words: Vec<String>) -> Result<(), BootError> {
        if words.len() > 2 || words.iter().any(String::is_empty) {
            return Err(self.error("a block has a name, and for a tag node the instance's"));
        }
        if self.at.len() + words.len() > MAX_DEPTH {
            return Err(self.error("nested too deeply"));
        }
        self.opened.push(words.len());
        self.at.extend(words);
        let path = ConfigPath::from_walk(&self.at);
        match self.boot.tree.set_flag(&path) {
            Ok(()) if self.boot.tree.at(&path).and_then(Node::values).is_none() => Ok(()),
            _ => Err(self.error("a block where a value is set")),
        }
    }

    fn leaf(&mut self, words: Vec<String>) -> Result<(), BootError> {
        let mut words = words.into_iter();
        let (Some(name), value, None) =
            (words.next().filter(|name| !name.is_empty()), words.next(), words.next())
        else {
            return Err(self.error("a setting is a name, or a name and a value in quotes"));
        };
        let path = ConfigPath::try_from([self.at.as_slice(), &[name]].concat())
            .map_err(|_| self.error("an empty name"))?;
        let done = match value {
            Some(value) => self.boot.tree.add(&path, value),
            None => self.boot.tree.set_flag(&path),
        };
        done.map_err(|_| self.error("a value where a block is"))
    }

    fn close(&mut self) -> Result<(), BootError> {
        self.skip(1);
        let words = self.opened.pop().ok_or_else(|| self.error("a `}` too many"))?;
        self.at.truncate(self.at.len() - words);
        Ok(())
    }

    fn word(&mut self) -> Result<String, BootError> {
        match self.rest.chars().next() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote),
            _ => {
                let ends = |c: char| c.is_whitespace() || c == '{' || c == '}';
                let end = self.rest.find(ends).unwrap_or(self.rest.len());
                Ok(self.skip(end).to_owned())
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, BootError> {
        let mut word = String::new();
        let mut chars = self.rest.char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.skip(at + 1);
                    return Ok(word);
                }
                '\\' => {
                    // Only a quote and the backslash itself are written escaped: `\s` stays two characters.
                    let escaped = chars.next_if(|(_, c)| *c == '\\' || *c == '"' || *c == '\'');
                    word.push(escaped.map_or('\\', |(_, c)| c));
                }
                c => word.push(c),
            }
        }
        Err(self.error("a quote is not closed"))
    }

    fn comment(&mut self) -> Result<(), BootError> {
        let end = self.rest.find("*/").ok_or_else(|| self.error("a comment is not closed"))?;
        let text = self.skip(end + 2);
        self.trailer(text);
        Ok(())
    }

    fn line_comment(&mut self) {
        let end = self.rest.find('\n').unwrap_or(self.rest.len());
        let text = self.skip(end);
        self.trailer(text);
    }

    /// `vyos-config-version: "bgp@5:nat@8"` and `Release version: 1.5`, in the comments of old and new releases.
    fn trailer(&mut self, comment: &str) {
        let text = comment.trim_matches(|c: char| c == '/' || c == '*' || c == '=' || c.is_whitespace());
        if let Some(release) = text.strip_prefix("Release version:") {
            self.boot.trailer.release = Some(release.trim().to_owned());
        } else if let Some((_, list)) = text.split_once("-config-version:") {
            let list = list.trim().trim_matches('"');
            let pair = |item: &str| {
                item.split_once('@').and_then(|(name, n)| Some((name.to_owned(), n.parse().ok()?)))
            };
            self.boot.trailer.versions = list.split(':').filter_map(pair).collect();
        }
    }

    fn blanks(&mut self, lines_too: bool) {
        let blank = |c: char| c.is_whitespace() && (lines_too || c != '\n');
        let end = self.rest.find(|c| !blank(c)).unwrap_or(self.rest.len());
        self.skip(end);
    }

    fn skip(&mut self, bytes: usize) -> &'a str {
        let (skipped, rest) = self.rest.split_at(bytes);
        self.line += skipped.bytes().filter(|b| *b == b'\n').count();
        self.rest = rest;
        skipped
    }

    fn error(&self, what: &'static str) -> BootError {
        BootError { line: self.line, what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Untyped, print};
    use proptest::prelude::*;

    const TEXT: &str = r#"
interfaces {
    ethernet eth0 {
        address 192.0.2.1/24
        address "2001:db8::1/64"
        description "it is \"up\" C:\temp"
        disable
    }
    loopback lo {
    }
}
/* a comment { with a brace */
system {
    host-name 'edge'
}

// Warning: Do not remove the following line.
// vyos-config-version: "bgp@5:dhcp-server@11"
// Release version: 1.5-rolling
"#;

    #[test]
    fn reads_blocks_values_flags_and_the_trailer() {
        let boot = boot(TEXT).unwrap();
        assert_eq!(boot.trailer.versions["dhcp-server"], 11);
        assert_eq!(boot.trailer.release.as_deref(), Some("1.5-rolling"));
        let eth0 = boot.tree.at(&["interfaces", "ethernet", "eth0"]).unwrap();
        assert_eq!(eth0.text("description"), Some(r#"it is "up" C:\temp"#));
        assert_eq!(eth0.child("address").unwrap().weight(), 2);
        assert!(eth0.child("disable").unwrap().is_bare());
        assert!(boot.tree.at(&["interfaces", "loopback", "lo"]).is_some());
    }

    #[test]
    fn reads_the_trailer_of_old_releases() {
        let old = "/* === vyatta-config-version: \"nat@5:system@18\" === */\n/* Release version: 1.2.9 */";
        let trailer = boot(old).unwrap().trailer;
        assert_eq!((trailer.versions["nat"], trailer.release.as_deref()), (5, Some("1.2.9")));
    }

    #[test]
    fn says_where_it_is_wrong() {
        assert_eq!(boot("a {\n b {\n }\n").unwrap_err().to_string(), "line 4: a `{` is not closed");
        assert_eq!(boot("a 1\n}").unwrap_err().to_string(), "line 2: a `}` too many");
        assert_eq!(boot("a 1\na {\n}").unwrap_err().line, 2);
        assert_eq!(boot(&"a {\n".repeat(1000)).unwrap_err().what, "nested too deeply");
    }

    fn any_tree() -> impl Strategy<Value = Tree> {
        let leaf = ("[a-z0-9./:]{1,3}( [a-z0-9:]{1,3}){0,3}", proptest::option::of(".*"));
        proptest::collection::vec(leaf, 0..12).prop_map(|leaves| {
            let mut tree = Tree::new();
            for (path, value) in leaves {
                let path: ConfigPath = path.parse().unwrap();
                // A leaf in the way of a branch is simply left out.
                let _ = match value {
                    Some(value) => tree.add(&path, value),
                    None => tree.set_flag(&path),
                };
            }
            tree
        })
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*", braces in r#"[a-c {}"'\n/*\\]{0,60}"#) {
            let _ = boot(&text);
            let _ = boot(&braces);
        }

        #[test]
        fn what_is_printed_is_read_back(tree in any_tree()) {
            prop_assert_eq!(&boot(&print::block(&tree, &Untyped)).unwrap().tree, &tree);
            prop_assert_eq!(&super::super::json(&print::json(&tree)).unwrap(), &tree);
        }
    }
}
