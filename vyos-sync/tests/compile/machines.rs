//! A VLAN whose objects are gone stays on the router while a machine is on it.

use crate::support::{DIALECTS, inputs};
use vyos_sync::compile::{self, Known};
use vyos_sync::config::{Dialect, Schema, Tree};
use vyos_sync::inputs::Inputs;
use vyos_sync::plan::{Keep, Ledger, Limits, Plan};

const ROUTER: &str = "
apiVersion: weir.dev/v1alpha1
kind: Router
metadata: {name: gateway}
spec:
  endpoints: ['https://192.0.2.1']
  tls: {spkiPins: [x]}
  apiKey: {file: key}
  mode: Sync
  grants: Open
  sources: {harvester: {parent: {name: eth1}}}
";
/// Harvester's own network, followed with no object of ours.
const TENANT: &str = r#"
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata:
  name: tenant
  namespace: default
  annotations: {network.harvesterhci.io/route: '{"mode":"manual","cidr":"10.10.40.0/24","gateway":"10.10.40.1"}'}
spec: {config: '{"type":"bridge","vlan":40}'}
"#;
const PROD: &str = r#"
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: prod, namespace: default}
spec: {config: '{"type":"bridge","vlan":50}'}
"#;
const OURS: &str = "
apiVersion: weir.dev/v1alpha1
kind: RouterNetwork
metadata: {name: prod, namespace: lab}
spec:
  routerRef: {name: gateway}
  parent: {name: eth1}
  harvesterRef: {namespace: default, name: prod}
  subnets: [{cidr: 10.10.50.0/24}]
  dhcp: {server: {ranges: [{start: 10.10.50.100, end: 10.10.50.200}]}}
";
const OTHER: &str = "
apiVersion: weir.dev/v1alpha1
kind: RouterNetwork
metadata: {name: other, namespace: lab}
spec: {routerRef: {name: gateway}, vlan: 60, parent: {name: eth1}, subnets: [{cidr: 10.10.60.0/24}]}
";
const STAYS: &str = "
apiVersion: weir.dev/v1alpha1
kind: RouterNetwork
metadata: {name: stays, namespace: lab}
spec: {routerRef: {name: gateway}, vlan: 70, parent: {name: eth1}, subnets: [{cidr: 10.10.70.0/24}]}
";
const WEB: &str = "
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: web, namespace: default}
spec: {template: {spec: {networks: [{name: a, multus: {networkName: tenant}}]}}}
";
const DB: &str = "
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata: {name: db, namespace: lab}
spec: {networks: [{name: a, multus: {networkName: default/prod}}]}
";

/// The router as all objects make it, and what was applied.
fn before(dialect: Dialect) -> (Tree, Ledger) {
    let all = inputs(&[ROUTER, TENANT, PROD, OURS, OTHER, STAYS]);
    let router = all.router("gateway").unwrap();
    let compiled = compile::compile(&all, router, dialect, &Tree::new(), &Ledger::default());
    let plan = plan(&all, dialect, &Tree::new(), &Ledger::default()).1;
    let ledger = Ledger { numbers: compiled.numbers, ..Ledger::default().begun(&plan).settled(&plan) };
    (compiled.rendered.desired.tree().clone(), ledger)
}

fn plan(inputs: &Inputs, dialect: Dialect, running: &Tree, ledger: &Ledger) -> (compile::Compiled, Plan) {
    let router = inputs.router("gateway").unwrap();
    let compiled = compile::compile(inputs, router, dialect, running, ledger);
    let schema = Schema::built_in(dialect);
    let known = Known { running, ledger, dialect, schema, limits: Limits::default() };
    let plan = compile::plan(&compiled, &router.spec, known);
    (compiled, plan)
}

/// The commands of a plan, and what is said of it, once only these objects are left.
fn left(objects: &[&str], dialect: Dialect) -> (Vec<String>, Vec<String>, Keep) {
    let (running, ledger) = before(dialect);
    let (compiled, plan) = plan(&inputs(objects), dialect, &running, &ledger);
    let commands = plan.commands.iter().map(ToString::to_string).collect();
    (commands, compiled.problems().map(ToString::to_string).collect(), compiled.keep)
}

#[test]
fn a_harvester_network_that_goes_stays_for_its_machine() {
    for dialect in DIALECTS {
        let rest = [ROUTER, PROD, OURS, STAYS];
        let (commands, said, _) = left(&[&rest[..], &[WEB]].concat(), dialect);
        assert!(commands.iter().all(|command| command.contains("vif 60")), "{dialect}: {commands:#?}");
        assert!(!commands.is_empty(), "what nobody is on goes");
        assert_eq!(
            said,
            [
                "NetworkAttachmentDefinition default/tenant: spec.config.vlan: no object asks for VLAN 40 on eth1 any more, and \
              VirtualMachine default/web is still on it; it stays on the router; delete the machine, or take this network out \
              of it, or make the object again"
            ]
        );
        let (commands, said, keep) = left(&rest, dialect);
        assert!(commands.iter().any(|command| command.contains("vif 40")), "{dialect}: {commands:#?}");
        assert_eq!((said, keep), (Vec::<String>::new(), Keep::Nothing), "the machine has left");
    }
}

#[test]
fn a_network_of_ours_that_goes_stays_with_all_that_it_serves() {
    for dialect in DIALECTS {
        // The definition goes on to tell which VLAN the machine is on.
        let rest = [ROUTER, TENANT, PROD, OTHER, STAYS];
        let about = |commands: &[String]| {
            commands.iter().filter(|each| each.contains("vif 50") || each.contains("10.10.50")).count()
        };
        let (commands, said, _) = left(&[&rest[..], &[DB]].concat(), dialect);
        assert_eq!(about(&commands), 0, "{dialect}: {commands:#?}");
        let named = |text: &String| {
            text.contains("VLAN 50 on eth1") && text.contains("VirtualMachineInstance lab/db")
        };
        assert!(said.iter().any(named), "{said:#?}");
        let (commands, ..) = left(&rest, dialect);
        assert!(about(&commands) > 0, "{dialect}: {commands:#?}");
    }
}

#[test]
fn a_network_that_is_still_asked_for_changes_as_ever() {
    let moved = TENANT.replace("10.10.40.", "10.10.41.");
    for dialect in DIALECTS {
        let objects = [ROUTER, &moved, PROD, OURS, OTHER, STAYS, WEB, DB];
        let (commands, said, keep) = left(&objects, dialect);
        assert!(commands.iter().any(|command| command.contains("10.10.41.1/24")), "{commands:#?}");
        assert!(
            commands.iter().any(|command| command.contains("delete") && command.contains("10.10.40.1/24"))
        );
        assert_eq!((said, keep), (Vec::<String>::new(), Keep::Nothing));
    }
}
