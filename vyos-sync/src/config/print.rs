//! Writes a configuration: as `set` commands, as a config block, as the API's JSON.

use std::cmp::Ordering;
use std::fmt::Write;

use serde_json::Value;

use super::{Children, Kind, Kinds, Node, Tree};

/// The tree as `set` commands, one a line, in natural order.
pub fn commands(tree: &Tree) -> String {
    let mut leaves = tree.leaves();
    leaves.sort_by(|a, b| natural_words(&a.path, &b.path));
    leaves.iter().fold(String::new(), |mut text, leaf| {
        let _ = writeln!(text, "set {leaf}");
        text
    })
}

/// The tree as a config block. The schema says which nodes are tags and which are flags.
pub fn block(tree: &Tree, kinds: &impl Kinds) -> String {
    let mut writer = Block { kinds, at: Vec::new(), text: String::new(), depth: 0 };
    writer.children(tree.children());
    writer.text
}

/// The tree as `/retrieve` shows it.
pub fn json(tree: &Tree) -> Value {
    children_json(tree.children())
}

/// One node as `/retrieve` shows it.
pub fn node_json(node: &Node) -> Value {
    match node {
        Node::Branch(children) => children_json(children),
        Node::Leaf(values) => match values.first() {
            Some(one) if values.len() == 1 => one.clone().into(),
            _ => values.iter().cloned().collect(),
        },
    }
}

fn children_json(children: &Children) -> Value {
    let field = |(name, node): (&String, &Node)| (name.clone(), node_json(node));
    Value::Object(children.iter().map(field).collect())
}

/// `eth2` before `eth10`: runs of digits are compared as numbers.
pub fn natural(a: &str, b: &str) -> Ordering {
    let (mut a_rest, mut b_rest) = (a, b);
    while !a_rest.is_empty() && !b_rest.is_empty() {
        let ((x, x_rest), (y, y_rest)) = (run(a_rest), run(b_rest));
        let digits =
            x.starts_with(|c: char| c.is_ascii_digit()) && y.starts_with(|c: char| c.is_ascii_digit());
        let (xs, ys) = (x.trim_start_matches('0'), y.trim_start_matches('0'));
        let order = if digits { xs.len().cmp(&ys.len()).then(xs.cmp(ys)) } else { x.cmp(y) };
        if order.is_ne() {
            return order;
        }
        (a_rest, b_rest) = (x_rest, y_rest);
    }
    a_rest.len().cmp(&b_rest.len()).then_with(|| a.cmp(b))
}

fn natural_words(a: &[String], b: &[String]) -> Ordering {
    let differ = a.iter().zip(b).map(|(a, b)| natural(a, b)).find(|order| order.is_ne());
    differ.unwrap_or_else(|| a.len().cmp(&b.len()))
}

/// The text's first run of digits or of other characters, and the rest.
fn run(text: &str) -> (&str, &str) {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    text.split_at(text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len()))
}

struct Block<'a, K> {
    kinds: &'a K,
    at: Vec<String>,
    text: String,
    depth: usize,
}

impl<K: Kinds> Block<'_, K> {
    fn children(&mut self, children: &Children) {
        let mut sorted: Vec<_> = children.iter().collect();
        sorted.sort_by(|a, b| natural(a.0, b.0));
        for (name, node) in sorted {
            self.at.push(name.clone());
            self.node(&word(name), node);
            self.at.pop();
        }
    }

    fn node(&mut self, title: &str, node: &Node) {
        match node {
            Node::Leaf(values) => {
                values.iter().for_each(|value| self.line(&format!("{title} {}", word(value))))
            }
            Node::Branch(children) => match self.kinds.kind(&self.at) {
                Some(Kind::Tag) => self.instances(title, children),
                Some(Kind::Flag) => self.line(title),
                _ => self.braces(title, children),
            },
        }
    }

    fn instances(&mut self, tag: &str, children: &Children) {
        let mut sorted: Vec<_> = children.iter().collect();
        sorted.sort_by(|a, b| natural(a.0, b.0));
        for (name, node) in sorted {
            self.at.push(name.clone());
            self.node(&format!("{tag} {}", word(name)), node);
            self.at.pop();
        }
    }

    fn braces(&mut self, title: &str, children: &Children) {
        self.line(&format!("{title} {{"));
        self.depth += 1;
        self.children(children);
        self.depth -= 1;
        self.line("}");
    }

    fn line(&mut self, line: &str) {
        let _ = writeln!(self.text, "{:indent$}{line}", "", indent = self.depth * 4);
    }
}

/// A value as `config.boot` has it: in double quotes unless it is plain.
fn word(value: &str) -> std::borrow::Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.:@%+,=-/".contains(c);
    if !value.is_empty() && !value.starts_with('/') && value.chars().all(plain) {
        return value.into();
    }
    let mut text = String::from('"');
    let mut chars = value.chars().peekable();
    while let Some(c) = chars.next() {
        let escape = match c {
            '"' => true,
            '\\' => matches!(chars.peek(), None | Some('\\' | '"' | '\'')),
            _ => false,
        };
        text.extend(escape.then_some('\\'));
        text.push(c);
    }
    text.push('"');
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Lab;
    impl Kinds for Lab {
        fn kind(&self, path: &[String]) -> Option<Kind> {
            match path.last()?.as_str() {
                "vif" | "ethernet" => Some(Kind::Tag),
                "disable" => Some(Kind::Flag),
                _ => None,
            }
        }
    }

    #[test]
    fn writes_blocks_as_the_router_does() {
        let mut tree = Tree::new();
        let eth = "interfaces ethernet eth5".parse::<crate::config::ConfigPath>().unwrap();
        tree.set(&eth.descend(["vif", "100", "description"]), "lab net").unwrap();
        tree.set_flag(&eth.descend(["vif", "20", "disable"])).unwrap();
        let want = "interfaces {\n    ethernet eth5 {\n        vif 20 {\n            disable\n        }\n        vif 100 {\n            description \"lab net\"\n        }\n    }\n}\n";
        assert_eq!(block(&tree, &Lab), want);
        assert_eq!(
            commands(&tree),
            "set interfaces ethernet eth5 vif 20 disable\nset interfaces ethernet eth5 vif 100 description 'lab net'\n"
        );
    }

    #[test]
    fn numbers_sort_as_numbers() {
        let mut names = ["eth10", "eth2", "eth1.9", "a", "eth02"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["a", "eth1.9", "eth02", "eth2", "eth10"]);
    }
}
