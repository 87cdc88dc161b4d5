//! How the agent's source of objects does: the API server, and each kind that is read.

use std::collections::BTreeMap;

use serde::Serialize;

/// The state of the cluster source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sources {
    /// The API server.
    pub server: Server,
    /// Each kind that is read.
    pub kinds: BTreeMap<&'static str, SourceState>,
}

/// Whether the API server can be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "why")]
pub enum Server {
    /// There is none to ask.
    #[default]
    Off,
    /// It has not answered yet.
    Asked,
    /// It answers.
    Answers,
    /// It does not answer, for this reason: what was known counts on.
    Away(String),
}

/// How a kind is followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "why")]
pub enum SourceState {
    /// Its objects are not all here yet.
    Starting,
    /// Its objects are here, and changes come.
    Following,
    /// The cluster has no such kind.
    Missing,
    /// The API server refuses, for this reason; what was known counts on.
    Refused(String),
}

impl Server {
    /// The words of all states but [`Server::Off`], in the order of [`Server::as_str`].
    pub const WORDS: [&str; 3] = ["asked", "answers", "away"];

    /// The word in labels and tables.
    pub fn as_str(&self) -> &'static str {
        match self {
            Server::Off => "off",
            Server::Asked => "asked",
            Server::Answers => "answers",
            Server::Away(_) => "away",
        }
    }
}

impl SourceState {
    /// The words of all states.
    pub const WORDS: [&str; 4] = ["starting", "following", "missing", "refused"];

    /// The word in labels and tables.
    pub fn as_str(&self) -> &'static str {
        match self {
            SourceState::Starting => "starting",
            SourceState::Following => "following",
            SourceState::Missing => "missing",
            SourceState::Refused(_) => "refused",
        }
    }
}

impl Sources {
    /// Whether every kind has been listed, is not there, or is refused: what is known is all that will be.
    pub fn are_complete(&self) -> bool {
        self.kinds.values().all(|state| *state != SourceState::Starting)
    }

    /// Whether what is known of a kind is what the cluster has now. A kind that is not followed comes from a folder.
    pub fn is_current(&self, kind: &str) -> bool {
        match self.kinds.get(kind) {
            None => true,
            Some(state) => *state == SourceState::Following && !matches!(self.server, Server::Away(_)),
        }
    }

    /// The kinds in a state, by its word.
    pub fn kinds_that_are(&self, word: &str) -> impl Iterator<Item = &'static str> {
        self.kinds.iter().filter(move |(_, state)| state.as_str() == word).map(|(kind, _)| *kind)
    }

    /// What keeps the source from being whole, for people; nothing where it is, or where there is none.
    pub fn trouble(&self) -> Option<String> {
        let refused = self.kinds.iter().filter_map(|(kind, state)| match state {
            SourceState::Refused(why) => Some(format!("{kind}: {why}")),
            _ => None,
        });
        match &self.server {
            Server::Off => None,
            Server::Asked => Some("the API server has not answered yet".to_owned()),
            Server::Away(why) => Some(format!("the API server is away ({why}); what was known counts on")),
            Server::Answers => {
                let refused: Vec<String> = refused.collect();
                let waiting: Vec<&str> = self.kinds_that_are("starting").collect();
                match (refused.is_empty(), waiting.is_empty()) {
                    (false, _) => Some(refused.join("; ")),
                    (true, false) => Some(format!("not all is listed yet: {}", waiting.join(", "))),
                    (true, true) => None,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_names_what_is_not_as_it_should_be() {
        let mut sources = Sources::default();
        assert_eq!(sources.trouble(), None, "without a cluster nothing is missing");
        sources.server = Server::Answers;
        sources.kinds =
            [("Service", SourceState::Following), ("CiliumBGPNodeConfig", SourceState::Missing)].into();
        assert!(
            sources.are_complete() && sources.trouble().is_none(),
            "a kind that is not there is no trouble"
        );
        assert!(sources.is_current("Service") && sources.is_current("Pod"), "Pod is not followed");
        assert!(!sources.is_current("CiliumBGPNodeConfig"));
        sources.kinds.insert("Pod", SourceState::Starting);
        assert!(!sources.are_complete() && sources.trouble().unwrap().contains("Pod"));
        sources.kinds.insert("Node", SourceState::Refused("403".into()));
        assert_eq!(sources.trouble().unwrap(), "Node: 403");
        sources.server = Server::Away("connection refused".into());
        assert!(sources.trouble().unwrap().contains("connection refused"));
        assert!(!sources.is_current("Service"));
    }
}
