//! All that is known of living clusters at one moment: the objects, and what is needed to write to them.

use super::{ClusterName, Inputs, ObjectId};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use std::collections::BTreeMap;

/// What is needed to write to an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    /// Its unique id.
    pub uid: String,
    /// The generation of its spec.
    pub generation: Option<i64>,
    /// Who must let it go before it is gone.
    pub finalizers: Vec<String>,
    /// When its deletion was asked for, by the API server's clock.
    pub deleted_at: Option<Timestamp>,
    /// The generation that its status speaks of.
    pub observed_generation: Option<i64>,
    /// The conditions of its status.
    pub conditions: Vec<Condition>,
}

/// How a watch fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// Its objects are not listed yet.
    Starting,
    /// Its objects are known, and changes arrive.
    Live,
    /// The cluster does not have the kind.
    Off,
    /// The cluster had the kind and has it no more: its objects are as last known.
    Gone,
    /// The API server refuses it.
    Failing(String),
}

/// All that is known at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The objects.
    pub inputs: Inputs,
    /// What is needed to write to them.
    pub metas: BTreeMap<ObjectId, Meta>,
    /// How each watch fares: cluster, what it watches, state.
    pub sources: Vec<(ClusterName, String, SourceState)>,
    /// Whether the cluster that holds the Router objects is known as far as it can be.
    pub settled: bool,
}
