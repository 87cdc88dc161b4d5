//! The truth table as it is published.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use super::evidence::Evidence;
use super::explain::{Explanation, explain};
use super::judge::Row;
use crate::model::cluster::Fault;

/// All virtual addresses at one moment, with what they were judged by.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Table {
    /// The rows, sorted by address; findings that have held for a while.
    pub rows: Vec<Row>,
    /// What could not be read.
    pub faults: Vec<Fault>,
    /// What the rows were judged by.
    #[serde(skip)]
    pub evidence: Arc<Evidence>,
}

impl Table {
    /// The whole way of an address.
    pub fn explain(&self, vip: IpAddr) -> Explanation {
        explain(&self.evidence, vip)
    }
}
