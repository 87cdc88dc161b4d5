//! Istio ambient: who is enrolled, and how much of what workloads say to each other is under mTLS.
//!
//! What is counted by pair of addresses (`meshGuard`) becomes counters by pair of workloads. Pure: the counts and the names are
//! arguments.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use super::workload::{Workload, Workloads};

/// The annotation with which Istio's CNI says that a Pod's packets are redirected, and its value then.
pub const REDIRECTION: (&str, &str) = ("ambient.istio.io/redirection", "enabled");

/// Pairs of workloads that are told apart; what more there are is counted as of nobody.
const PAIRS: usize = 2_000;

/// What packets between enrolled pods are, as the guard's rules count them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// HBONE: mutual TLS between the ztunnels.
    Mtls,
    /// Anything else.
    Plain,
}

impl Security {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Mtls, Self::Plain];

    /// The word in labels and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mtls => "mtls",
            Self::Plain => "plain",
        }
    }
}

/// Packets and their octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Octets.
    pub bytes: u64,
}

impl Count {
    /// Adds another one.
    pub fn add(&mut self, other: Self) {
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    /// What was added since; all where the counter began anew.
    fn since(self, before: Self) -> Self {
        if self.packets < before.packets || self.bytes < before.bytes {
            return self;
        }
        Self { packets: self.packets - before.packets, bytes: self.bytes - before.bytes }
    }
}

/// What was counted of two addresses on one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Between {
    /// The pod of this node.
    pub here: IpAddr,
    /// The other pod.
    pub peer: IpAddr,
    /// What it was.
    pub security: Security,
    /// The counter: those of different rules are different.
    pub counter: u32,
}

/// What two workloads said to each other, both ways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Talk {
    /// The workload of this node; `None` for what cannot be told apart.
    pub here: Option<Arc<Workload>>,
    /// The other one.
    pub peer: Option<Arc<Workload>>,
    /// Under mutual TLS.
    pub mtls: Count,
    /// In clear.
    pub plain: Count,
}

type Names = (Option<Arc<Workload>>, Option<Arc<Workload>>);

/// Counts by pair of workloads. Addresses come and go; what was counted stays with the workloads that had them.
#[derive(Debug, Default)]
pub struct Book {
    seen: BTreeMap<Between, Count>,
    talks: BTreeMap<Names, [Count; 2]>,
}

impl Book {
    /// Takes in what the kernel has counted so far.
    pub fn take(&mut self, counted: BTreeMap<Between, Count>, enrolled: &Workloads) {
        for (between, count) in &counted {
            let more = count.since(self.seen.get(between).copied().unwrap_or_default());
            if more == Count::default() {
                continue;
            }
            let name = |address: &IpAddr| enrolled.get(address).cloned();
            let mut names = (name(&between.here), name(&between.peer));
            if self.talks.len() >= PAIRS && !self.talks.contains_key(&names) {
                names = (None, None);
            }
            let [mtls, plain] = self.talks.entry(names).or_default();
            match between.security {
                Security::Mtls => mtls.add(more),
                Security::Plain => plain.add(more),
            }
        }
        self.seen = counted;
    }

    /// All pairs, by name.
    pub fn talks(&self) -> Vec<Talk> {
        let talk = |((here, peer), [mtls, plain]): (&Names, &[Count; 2])| Talk {
            here: here.clone(),
            peer: peer.clone(),
            mtls: *mtls,
            plain: *plain,
        };
        self.talks.iter().map(talk).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(name: &str) -> Arc<Workload> {
        Arc::new(Workload { namespace: "shop".to_owned(), name: name.to_owned() })
    }

    fn between(here: u8, peer: u8, security: Security) -> Between {
        let address = |last| IpAddr::from([10, 1, 0, last]);
        Between { here: address(here), peer: address(peer), security, counter: 1 }
    }

    fn count(packets: u64) -> Count {
        Count { packets, bytes: packets * 100 }
    }

    #[test]
    fn counts_stay_with_workloads_whatever_becomes_of_addresses() {
        let address = |last| IpAddr::from([10, 1, 0, last]);
        let mut enrolled: Workloads =
            [(address(1), workload("web")), (address(2), workload("db")), (address(3), workload("web"))]
                .into();
        let mut book = Book::default();
        let first = [
            (between(1, 2, Security::Mtls), count(10)),
            (between(3, 2, Security::Mtls), count(5)),
            (between(1, 2, Security::Plain), count(1)),
            (between(1, 9, Security::Plain), count(7)),
        ];
        book.take(first.into(), &enrolled);
        // The first pod is gone and its address is another workload's; the third one's entry made room and began anew.
        enrolled.insert(address(1), workload("batch"));
        let second = [
            (between(1, 2, Security::Mtls), count(12)),
            (between(3, 2, Security::Mtls), count(2)),
            (between(1, 2, Security::Plain), count(1)),
        ];
        book.take(second.into(), &enrolled);
        let seen: Vec<_> = book
            .talks()
            .into_iter()
            .map(|talk| {
                let name = |one: Option<Arc<Workload>>| one.map_or_else(String::new, |one| one.name.clone());
                (name(talk.here), name(talk.peer), talk.mtls.packets, talk.plain.bytes)
            })
            .collect();
        let expected = [
            ("batch".into(), "db".into(), 2, 0),
            ("web".into(), String::new(), 0, 700),
            ("web".into(), "db".into(), 17, 100),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn so_many_pairs_and_no_more() {
        let address = |n: u32| IpAddr::from((0x0a01_0000 + n).to_be_bytes());
        let enrolled: Workloads = (0..3_000).map(|n| (address(n), workload(&format!("w{n}")))).collect();
        let counted = (1..3_000).map(|n| {
            let between =
                Between { here: address(0), peer: address(n), security: Security::Mtls, counter: 1 };
            (between, count(1))
        });
        let mut book = Book::default();
        book.take(counted.collect(), &enrolled);
        let talks = book.talks();
        assert_eq!(talks.len(), PAIRS + 1);
        assert_eq!(talks.iter().map(|talk| talk.mtls.packets).sum::<u64>(), 2_999, "nothing is lost");
    }
}
