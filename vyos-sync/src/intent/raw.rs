//! Raw configuration of a RouterConfig, inside the subtree that it owns.

use super::owner_of;
use super::problem::{Findings, Problem};
use crate::config::ConfigPath;
use crate::crd::{RawSetting, RouterSpec};
use crate::inputs::{Inputs, Object, ObjectId};
use crate::plan::Owner;

/// A subtree and what is set in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// The object it comes from.
    pub object: ObjectId,
    /// Whose configuration it is.
    pub owner: Owner,
    /// The subtree.
    pub subtree: ConfigPath,
    /// What is set in it.
    pub set: Vec<RawSetting>,
}

pub(super) fn raw(inputs: &Inputs, router: &Object<RouterSpec>, problems: &mut Vec<Problem>) -> Vec<Raw> {
    let ours = inputs.configs.iter().filter(|each| each.spec.router_ref.name == router.id.name);
    let read = ours.filter_map(|object| {
        let spec = &object.spec;
        let mut findings = Findings::on(&object.id, problems);
        if !object.id.cluster.is_local() {
            let what = "a RouterConfig of another cluster is never followed";
            findings.refuse("metadata", what, "write it in the cluster that holds the Router");
        }
        let path = ConfigPath::try_from(spec.subtree.clone());
        let path = findings.read("spec.subtree", path, "give the words of a path");
        if spec.subtree.len() < 2 {
            findings.refuse(
                "spec.subtree",
                "a subtree has at least two words",
                "own less of the configuration",
            );
        }
        for (at, setting) in spec.set.iter().enumerate() {
            let mut words = setting.path.iter().chain(&setting.value);
            if setting.path.is_empty() || words.any(|word| word.is_empty() || !plain(word)) {
                let what = "the path is empty, or a word is empty or has a quote or a line break in it";
                findings.refuse(&format!("spec.set[{at}]"), what, "VyOS cannot hold such words");
            }
        }
        if let Some(path) = &path {
            check_protected(path, &router.spec, &mut findings);
        }
        let raw = Raw {
            object: object.id.clone(),
            owner: owner_of(&object.id),
            subtree: path?,
            set: spec.set.clone(),
        };
        findings.accepted(raw)
    });
    read.collect()
}

fn plain(word: &str) -> bool {
    word.chars().all(|c| c != '"' && c != '\'' && !c.is_control())
}

fn check_protected(path: &ConfigPath, router: &RouterSpec, findings: &mut Findings<'_>) {
    let management = router.management_path.iter();
    for text in management.chain(&router.protected_paths) {
        let Ok(protected) = text.parse::<ConfigPath>() else { continue };
        if path.is_within(&protected) || protected.is_within(path) {
            let what = format!("it meets `{text}`, which the Router protects");
            findings.refuse("spec.subtree", what, "own another subtree");
        }
    }
}
