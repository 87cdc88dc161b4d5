//! A stand-in router with manifests and a state folder of its own.
#![allow(dead_code, unreachable_pub, reason = "not every test uses all of it")]

use std::{path::Path, time::Duration};

use vyos_router::{Generation, Router};
use vyos_sync::{
    gather,
    reconcile::{Again, Error, Report, Session},
    store::Store,
    vyos::Timing,
};

pub const NETWORKS: &str = "
apiVersion: weir.dev/v1alpha1
kind: RouterNetwork
metadata: {name: a, namespace: lab}
spec:
  routerRef: {name: gw}
  vlan: 40
  parent: {name: eth1}
  subnets: [{cidr: 10.10.40.0/24}]
---
apiVersion: weir.dev/v1alpha1
kind: RouterNetwork
metadata: {name: b, namespace: lab}
spec:
  routerRef: {name: gw}
  vlan: 50
  parent: {name: eth1}
  subnets: [{cidr: 10.10.50.0/24}]
";

pub const PEERING: &str = "
apiVersion: weir.dev/v1alpha1
kind: BGPPeering
metadata: {name: hand, namespace: lab}
spec:
  routerRef: {name: gw}
  peerASN: 64513
  peers: [{name: node-a, address: 10.10.40.10}]
  accept: [{prefix: 10.99.0.0/24, le: 32}]
  passwordRef: {name: bgp, key: password}
---
apiVersion: v1
kind: Secret
metadata: {name: bgp, namespace: lab}
stringData: {password: correct-horse}
";

pub const VLAN: [&str; 5] = ["interfaces", "ethernet", "eth1", "vif", "40"];

/// A router, its manifests and our state.
pub struct Lab {
    pub router: Router,
    pub folder: tempfile::TempDir,
}

impl Lab {
    pub async fn new(generation: Generation) -> Self {
        let router =
            Router::builder().generation(generation).key("the-api-key").minute(Duration::from_secs(5));
        Self::with(router.boot_time(Duration::from_millis(100)).spawn().await.unwrap())
    }

    pub fn with(router: Router) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("source")).unwrap();
        let lab = Self { router, folder };
        lab.say("networks.yaml", NETWORKS);
        lab.router_object("the-api-key", &format!("spkiPins: ['{}']", lab.router.spki_pin()), "Reboot");
        lab
    }

    pub fn say(&self, file: &str, text: &str) {
        std::fs::write(self.folder.path().join("source").join(file), text).unwrap();
    }

    pub fn router_object(&self, key: &str, tls: &str, dead_man: &str) {
        let key_file = self.folder.path().join("key");
        std::fs::write(&key_file, key).unwrap();
        let text = format!(
            "apiVersion: weir.dev/v1alpha1\nkind: Router\nmetadata: {{name: gw}}\nspec:\n  endpoints: ['{}']\n  \
             tls: {{{tls}}}\n  apiKey: {{file: '{}'}}\n  mode: Sync\n  drift: Revert\n  grants: Open\n  \
             bgp: {{asn: 64512}}\n  commit: {{deadMan: {dead_man}}}\n",
            self.router.url(),
            key_file.display(),
        );
        self.say("router.yaml", &text);
    }

    pub async fn open(&self) -> Result<Session, Error> {
        let inputs = gather::folder(&self.folder.path().join("source"));
        let store = Store::open(&self.folder.path().join("state"), "gw").unwrap();
        Session::open(inputs.router("gw").unwrap(), &inputs, store, None, None).await
    }

    /// The same with little patience: what a router does in minutes takes seconds here.
    pub async fn open_hasty(&self) -> Result<Session, Error> {
        let inputs = gather::folder(&self.folder.path().join("source"));
        let store = Store::open(&self.folder.path().join("state"), "gw").unwrap();
        let second = Duration::from_secs(1);
        let timing = Timing { connect: second, read: second, commit: 3 * second, patience: 4 * second };
        Session::open_timed(inputs.router("gw").unwrap(), &inputs, store, None, None, timing).await
    }

    pub async fn pass(&self, session: &mut Session, again: Again) -> Report {
        self.try_pass(session, again).await.unwrap()
    }

    pub async fn try_pass(&self, session: &mut Session, again: Again) -> Result<Report, Error> {
        let inputs = gather::folder(&self.folder.path().join("source"));
        session.reconcile(inputs.router("gw").unwrap(), &inputs, again).await
    }

    pub async fn apply(&self) -> Report {
        self.pass(&mut self.open().await.unwrap(), Again::No).await
    }

    /// Everything that was written below the state folder, but for the key of the seals.
    pub fn written(&self) -> String {
        fn read(folder: &Path, all: &mut String) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => read(&path, all),
                    false if path.ends_with("seal.key") => {}
                    false => all.push_str(&std::fs::read_to_string(path).unwrap()),
                }
            }
        }
        let mut all = String::new();
        read(&self.folder.path().join("state"), &mut all);
        all
    }
}
