//! What Harvester's LinkMonitors say of this node's links, held against the links themselves. Pure: time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::address::IfIndex;
use super::cluster::{Cluster, Labels};
use super::link::{Link, OperState};

/// A difference counts once it has lasted so long: a LinkMonitor is written a moment after its links have changed.
const GRACE: Duration = Duration::from_secs(10);

/// Links that are compared at most.
const LINKS: usize = 256;

/// A `LinkMonitor` (network.harvesterhci.io/v1beta1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkMonitor {
    /// Its name.
    pub name: String,
    /// Labels of the nodes that it is for; of others it may hold what was long ago.
    pub selector: Labels,
    /// What it says of links, by node.
    pub links: BTreeMap<String, Vec<SaidLink>>,
}

/// What a LinkMonitor says of a link (`status.linkStatus`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SaidLink {
    /// The link's name.
    pub name: String,
    /// Its state.
    #[serde(default)]
    pub state: Said,
}

/// The state of a link as a LinkMonitor has it: `Up` is `IF_OPER_UP`, and `Down` all else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Said {
    /// It can carry packets.
    Up,
    /// It cannot, or does not tell.
    Down,
    /// Nobody has looked.
    #[default]
    Unknown,
}

impl Said {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }

    /// Whether this is not so. Nothing is concluded where either side does not tell.
    fn is_wrong(self, is: Option<OperState>) -> bool {
        match (self, is) {
            (_, None) => true,
            (Self::Unknown, _) | (_, Some(OperState::Unknown)) => false,
            (said, Some(is)) => (said == Self::Up) != (is == OperState::Up),
        }
    }
}

/// A link that a LinkMonitor tells of, and what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// The link's name.
    pub link: String,
    /// The LinkMonitor's name.
    pub monitor: String,
    /// What that says.
    pub says: Said,
    /// What the kernel says; nothing where there is no such link.
    pub is: Option<OperState>,
    /// Whether they have differed for a while.
    pub differs: bool,
}

/// Holds LinkMonitors against links, and remembers since when they differ.
#[derive(Debug, Default)]
pub struct Comparison {
    /// By link and LinkMonitor.
    since: BTreeMap<(String, String), Duration>,
}

impl Comparison {
    /// Compares all that is said of this node, at a time since any fixed moment. Nothing is, where it is not known what is said
    /// now; and without links nothing is known of them yet.
    pub fn look(
        &mut self,
        node: &str,
        cluster: Option<&Cluster>,
        links: &BTreeMap<IfIndex, Link>,
        now: Duration,
    ) -> Vec<Compared> {
        let before = std::mem::take(&mut self.since);
        let Some(cluster) = cluster.filter(|_| !links.is_empty()) else { return Vec::new() };
        let said = said(node, cluster).take(LINKS).map(|(monitor, said)| {
            let is = links.values().find(|link| link.name == said.name).map(|link| link.state);
            let mut differs = false;
            if said.state.is_wrong(is) {
                let key = (said.name.clone(), monitor.to_owned());
                let since = *before.get(&key).unwrap_or(&now);
                differs = now >= since + GRACE;
                self.since.insert(key, since);
            }
            Compared { link: said.name.clone(), monitor: monitor.to_owned(), says: said.state, is, differs }
        });
        said.collect()
    }

    /// How long until a difference counts that lasts; nothing where none waits for that.
    pub fn due(&self, now: Duration) -> Option<Duration> {
        self.since
            .values()
            .filter_map(|since| (*since + GRACE).checked_sub(now))
            .filter(|left| !left.is_zero())
            .min()
    }
}

/// What is said of this node's links, and by which LinkMonitor.
fn said<'a>(node: &'a str, cluster: &'a Cluster) -> impl Iterator<Item = (&'a str, &'a SaidLink)> {
    let labels = cluster.nodes.iter().find(|one| one.name == node).map(|one| &one.labels);
    let is_for_it = move |monitor: &&LinkMonitor| {
        labels.is_none_or(|labels| monitor.selector.iter().all(|(key, value)| labels.get(key) == Some(value)))
    };
    let monitors = cluster.link_monitors.iter().filter(is_for_it);
    monitors.flat_map(move |monitor| {
        monitor.links.get(node).into_iter().flatten().map(|said| (monitor.name.as_str(), said))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may fail")]
mod tests {
    use super::super::cluster::Node;
    use super::super::link::{LinkCounters, LinkKind};
    use super::*;

    fn links(states: &[(&str, OperState)]) -> BTreeMap<IfIndex, Link> {
        let link = |(at, (name, state)): (usize, &(&str, OperState))| {
            let index = IfIndex::try_from(u32::try_from(at).unwrap() + 1).unwrap();
            let link = Link {
                index,
                name: (*name).to_owned(),
                kind: LinkKind::Bond,
                state: *state,
                admin_up: true,
                carrier: true,
                mac: None,
                mtu: 1500,
                speed: None,
                master: None,
                parent: None,
                queue_length: 1000,
                counters: LinkCounters::default(),
                flaps: 0,
                changed: None,
            };
            (index, link)
        };
        states.iter().enumerate().map(link).collect()
    }

    fn monitor(name: &str, said: &[(&str, Said)]) -> LinkMonitor {
        let said = said.iter().map(|(name, state)| SaidLink { name: (*name).to_owned(), state: *state });
        let other = SaidLink { name: "elsewhere".to_owned(), state: Said::Up };
        let links = [("n".to_owned(), said.collect()), ("other".to_owned(), vec![other])].into();
        LinkMonitor { name: name.to_owned(), selector: Labels::new(), links }
    }

    fn cluster(link_monitors: Vec<LinkMonitor>) -> Cluster {
        Cluster { link_monitors, ..Cluster::default() }
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn differing(compared: &[Compared]) -> Vec<&str> {
        compared.iter().filter(|one| one.differs).map(|one| one.link.as_str()).collect()
    }

    #[test]
    fn states_differ_where_both_sides_tell() {
        use OperState::{Dormant, Down, LowerLayerDown, NotPresent, Testing, Unknown, Up};
        let all = [Up, Down, LowerLayerDown, Dormant, Testing, NotPresent, Unknown].map(Some);
        let wrong = |said: Said| all.map(|is| said.is_wrong(is));
        assert_eq!(wrong(Said::Up), [false, true, true, true, true, true, false]);
        assert_eq!(wrong(Said::Down), [true, false, false, false, false, false, false]);
        assert_eq!(wrong(Said::Unknown), [false; 7]);
        assert!([Said::Up, Said::Down, Said::Unknown].iter().all(|said| said.is_wrong(None)), "no such link");
    }

    #[test]
    fn a_difference_counts_once_it_has_lasted() {
        let cluster = cluster(vec![monitor("data", &[("data-bo", Said::Up)])]);
        let (up, down) = (links(&[("data-bo", OperState::Up)]), links(&[("data-bo", OperState::Down)]));
        let mut comparison = Comparison::default();
        let mut look = |links, now| {
            let compared = comparison.look("n", Some(&cluster), links, at(now));
            (compared[0].differs, comparison.due(at(now)))
        };
        assert_eq!(look(&up, 100), (false, None));
        assert_eq!(look(&down, 101), (false, Some(at(10))));
        assert_eq!(look(&down, 107), (false, Some(at(4))));
        assert_eq!(look(&up, 108), (false, None), "the LinkMonitor was late, and no more");
        assert_eq!(look(&down, 109), (false, Some(at(10))), "from the start again");
        assert_eq!(look(&down, 119), (true, None));
        assert_eq!(look(&down, 500), (true, None));
        assert_eq!(look(&up, 501), (false, None));
    }

    #[test]
    fn each_link_of_this_node_is_compared_and_no_other() {
        let said = [("data-bo", Said::Down), ("mgmt-bo", Said::Up), ("gone", Said::Up)];
        let monitors = vec![monitor("data", &said), monitor("more", &[("data-bo", Said::Up)])];
        let (cluster, now) = (cluster(monitors), at(60));
        let links =
            links(&[("data-bo", OperState::Up), ("mgmt-bo", OperState::Up), ("eth0", OperState::Down)]);
        let mut comparison = Comparison::default();
        comparison.look("n", Some(&cluster), &links, now - GRACE);
        let compared = comparison.look("n", Some(&cluster), &links, now);
        assert_eq!(compared.len(), 4);
        assert_eq!(differing(&compared), ["data-bo", "gone"]);
        assert_eq!((compared[0].monitor.as_str(), compared[0].says), ("data", Said::Down));
        assert_eq!((compared[0].is, compared[2].is), (Some(OperState::Up), None));
        assert_eq!(comparison.look("n", Some(&cluster), &BTreeMap::new(), now), [], "links are not read yet");
        assert_eq!(comparison.due(now), None);
        comparison.look("n", Some(&cluster), &links, now);
        assert_eq!(comparison.look("n", None, &links, now), [], "the API server is away");
        assert_eq!(comparison.due(now), None, "all begins anew");
        assert_eq!(comparison.look("stranger", Some(&cluster), &links, now), []);
    }

    #[test]
    fn a_monitor_for_other_nodes_counts_for_nothing() {
        let mut stale = monitor("data", &[("data-bo", Said::Up)]);
        stale.selector = [("rack".to_owned(), "2".to_owned())].into();
        let links = links(&[("eth0", OperState::Up)]);
        let mut cluster = cluster(vec![stale]);
        let node = |rack: &str| {
            let labels = [("rack".to_owned(), rack.to_owned()), ("zone".to_owned(), "a".to_owned())].into();
            Node { name: "n".to_owned(), addresses: Vec::new(), labels }
        };
        let mut look = |nodes| {
            cluster.nodes = nodes;
            Comparison::default().look("n", Some(&cluster), &links, at(0)).len()
        };
        assert_eq!((look(vec![node("1")]), look(vec![node("2")])), (0, 1));
        assert_eq!(look(Vec::new()), 1, "nobody knows its labels");
    }

    #[test]
    fn what_is_compared_is_bounded() {
        let names: Vec<String> = (0..1000).map(|number| format!("lxc{number}")).collect();
        let said: Vec<_> = names.iter().map(|name| (name.as_str(), Said::Up)).collect();
        let (cluster, links) = (cluster(vec![monitor("all", &said)]), links(&[("eth0", OperState::Up)]));
        assert_eq!(Comparison::default().look("n", Some(&cluster), &links, at(0)).len(), LINKS);
    }
}
