//! Which metrics and labels a PromQL expression names. Not a parser of PromQL: `promtool` is that.

use std::collections::BTreeSet;

/// A metric that an expression reads, and how its labels are matched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector {
    /// Its name, with the ending of its sample (`_total`, `_bucket`).
    pub metric: String,
    /// Label, operator, value.
    pub matchers: Vec<[String; 3]>,
}

/// What an expression names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The metrics it reads.
    pub selectors: Vec<Selector>,
    /// The labels of each `by`, `without`, `on`, `ignoring`, `group_left` and `group_right`, with that word.
    pub groupings: Vec<(String, BTreeSet<String>)>,
}

const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const WORDS: [&str; 6] = ["and", "or", "unless", "offset", "bool", "inf"];

/// Read an expression.
pub fn names(expression: &str) -> Names {
    let tokens = tokens(expression);
    let mut names = Names::default();
    let mut rest = tokens.as_slice();
    while let [token, after @ ..] = rest {
        rest = after;
        let Token::Word(word) = token else { continue };
        match after.first() {
            Some(Token::Mark('(')) if GROUPINGS.contains(&word.as_str()) => {
                let end = after.iter().position(|it| *it == Token::Mark(')')).unwrap_or(after.len());
                names.groupings.push((word.clone(), words(&after[..end])));
                rest = &after[end..];
            }
            Some(Token::Mark('(')) => {} // a function
            _ if WORDS.contains(&word.to_lowercase().as_str()) || GROUPINGS.contains(&word.as_str()) => {}
            Some(Token::Mark('{')) => {
                let end = after.iter().position(|it| *it == Token::Mark('}')).unwrap_or(after.len());
                names.selectors.push(Selector { metric: word.clone(), matchers: matchers(&after[1..end]) });
                rest = &after[end..];
            }
            // An aggregation that is followed by its grouping: `sum by (...)`.
            Some(Token::Word(next)) if ["by", "without"].contains(&next.as_str()) => {}
            _ => names.selectors.push(Selector { metric: word.clone(), matchers: Vec::new() }),
        }
    }
    names
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Mark(char),
}

fn tokens(expression: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut characters = expression.chars().peekable();
    while let Some(first) = characters.next() {
        if first == '"' {
            let mut text = String::new();
            while let Some(next) = characters.next().filter(|it| *it != '"') {
                text.push(if next == '\\' { characters.next().unwrap_or('\\') } else { next });
            }
            tokens.push(Token::Text(text));
        } else if first.is_ascii_alphanumeric() || first == '_' {
            let mut word = String::from(first);
            let part = |it: &char| it.is_ascii_alphanumeric() || *it == '_' || *it == ':';
            while let Some(next) = characters.next_if(part) {
                word.push(next);
            }
            if !first.is_ascii_digit() {
                tokens.push(Token::Word(word)); // else a number or a duration
            }
        } else if !first.is_whitespace() {
            tokens.push(Token::Mark(first));
        }
    }
    tokens
}

fn words(tokens: &[Token]) -> BTreeSet<String> {
    let word = |token: &Token| if let Token::Word(word) = token { Some(word.clone()) } else { None };
    tokens.iter().filter_map(word).collect()
}

fn matchers(tokens: &[Token]) -> Vec<[String; 3]> {
    let parts = tokens.split(|token| *token == Token::Mark(','));
    let matcher = |part: &[Token]| match part {
        [Token::Word(label), operator @ .., Token::Text(value)] => {
            let mark = |token: &Token| if let Token::Mark(mark) = token { Some(*mark) } else { None };
            Some([label.clone(), operator.iter().filter_map(mark).collect(), value.clone()])
        }
        _ => None,
    };
    parts.filter_map(matcher).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn names_are_found_and_functions_are_not() {
        let found = names(
            r#"histogram_quantile(0.99, sum by (cluster, le) (rate(a_bucket{x=~"1|2",y!="a}\"b"}[5m]))) > 2 and on (cluster) up unless b offset 1h"#,
        );
        let metrics: Vec<&str> = found.selectors.iter().map(|it| it.metric.as_str()).collect();
        assert_eq!(metrics, ["a_bucket", "up", "b"]);
        let matchers = &found.selectors[0].matchers;
        assert_eq!(matchers[0], ["x", "=~", "1|2"]);
        assert_eq!(matchers[1], ["y", "!=", "a}\"b"]);
        assert_eq!(
            found.groupings,
            [("by".to_owned(), set(&["cluster", "le"])), ("on".to_owned(), set(&["cluster"]))]
        );
    }

    #[test]
    fn recorded_names_and_numbers_are_told_apart() {
        let found = names("max(weir:x:rate5m) > 80e6 * 5 / on (a) group_left () c{}");
        let metrics: Vec<&str> = found.selectors.iter().map(|it| it.metric.as_str()).collect();
        assert_eq!(metrics, ["weir:x:rate5m", "c"]);
    }
}
