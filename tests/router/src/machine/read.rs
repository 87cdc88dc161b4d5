//! /retrieve: reads the session, not only what runs.

use serde_json::{Map, Value};
use vyos_sync::config::print::node_json;
use vyos_sync::config::{Kind, Kinds, Node};

use super::Machine;
use crate::http::call::Format;
use crate::http::reply::{Refusal, Reply};
use crate::print;
use crate::session::node_at;

impl Machine {
    pub(super) fn show_config(&self, path: &[String], format: Format) -> Reply {
        let state = self.state();
        if (state.configuring || state.session.is_broken()) && format == Format::Json {
            return Refusal::internal().into();
        }
        let Some(node) = node_at(state.session.proposed(), path) else {
            return self.absent(path).into();
        };
        match format {
            Format::Json => Reply::Done(self.wrapped(path, &node)),
            Format::Raw => Reply::text(print::raw(&self.model, path, &node)),
            Format::Ast => Reply::Done(print::ast(&self.model, path, "", &node)),
        }
    }

    pub(super) fn exists(&self, path: &[String]) -> Reply {
        Reply::Done(Value::Bool(self.state().session.proposed().exists(path)))
    }

    pub(super) fn return_value(&self, path: &[String]) -> Reply {
        let state = self.state();
        let node = node_at(state.session.proposed(), path);
        Reply::Done(node.as_ref().and_then(Node::first).map_or(Value::Null, Value::from))
    }

    pub(super) fn return_values(&self, path: &[String]) -> Reply {
        let state = self.state();
        let node = node_at(state.session.proposed(), path);
        let values = node.as_ref().and_then(Node::values).into_iter().flatten();
        Reply::Done(values.map(|value| Value::from(value.as_str())).collect())
    }

    fn absent(&self, path: &[String]) -> Refusal {
        Refusal::bad(if self.model.knows(path) {
            "Configuration under specified path is empty\n"
        } else {
            "Specified configuration path is not valid\n"
        })
    }

    /// A branch gives its content; a tag node and a leaf come wrapped in their own name.
    fn wrapped(&self, path: &[String], node: &Node) -> Value {
        let value = node_json(node);
        let wrap = matches!(node, Node::Leaf(_)) || self.model.kind(path) == Some(Kind::Tag);
        match path.last() {
            Some(name) if wrap => Value::Object(Map::from_iter([(name.clone(), value)])),
            _ => value,
        }
    }
}
