//! Whether a peering makes sense by itself, and its password.

use super::Password;
use super::compiler::{Compiler, Under};
use super::read::{accepted_by_hand, export, read_asn};
use crate::crd::{BGPPeeringSpec, PasswordRef, PeeringMode, SecretStore};
use crate::inputs::{BgpPeerConfig, Entry, Object, ObjectId, SecretBytes, StoreState};
use crate::intent::grant::{Subject, WAY_OUT};
use crate::intent::problem::{Findings, Problem};

/// The namespace in which Cilium keeps its BGP secrets.
const CILIUM_SECRETS: &str = "kube-system";

impl<'a> Compiler<'a> {
    /// Looks at what a peering says by itself.
    pub(super) fn sound(&self, peering: &Object<BGPPeeringSpec>, problems: &mut Vec<Problem>) -> bool {
        let spec = &peering.spec;
        let subject = Subject::of(&peering.id);
        let mut findings = Findings::on(&peering.id, problems);
        if let Some(asn) = spec.peer_asn.and_then(|asn| read_asn("spec.peerASN", Some(asn), &mut findings))
            && !self.grants.asn(&subject, asn)
        {
            findings.refuse("spec.peerASN", format!("AS {asn} is in no grant for it"), WAY_OUT);
        }
        if spec.peer_asn.is_none() && (spec.mode == PeeringMode::Dynamic || !spec.peers.is_empty()) {
            findings.refuse("spec.peerASN", "there is no AS number for the peers", "give spec.peerASN");
        }
        if spec.mode == PeeringMode::Dynamic
            && spec.dynamic.as_ref().is_none_or(|dynamic| dynamic.ranges.is_empty())
        {
            findings.refuse("spec.dynamic.ranges", "mode Dynamic needs a range", "give spec.dynamic.ranges");
        }
        if spec.mode == PeeringMode::Dynamic && spec.timers.is_some() {
            let what = "VyOS has no timers on a peer-group, so these cannot be set";
            findings.note(
                "spec.timers",
                what,
                "set them on the peers: the lower hold time of both ends counts",
            );
        }
        if let Some(timers) =
            spec.timers.filter(|timers| timers.keep_alive_time_seconds * 3 > timers.hold_time_seconds)
        {
            let what = format!(
                "keepalive {} is more than a third of hold time {}",
                timers.keep_alive_time_seconds, timers.hold_time_seconds
            );
            findings.refuse("spec.timers", what, "lower keepAliveTimeSeconds");
        }
        let accepted = accepted_by_hand(spec, &mut findings);
        for rule in accepted.iter().filter(|rule| !self.grants.cidr(&subject, &rule.prefix)) {
            findings.refuse("spec.accept", format!("{} is in no grant for it", rule.prefix), WAY_OUT);
        }
        export(spec, &mut findings);
        findings.accepted(()).is_some()
    }

    /// The TCP-MD5 password. Cilium goes on with an empty one where the Secret is missing; the router must not.
    pub(super) fn password(
        &self,
        under: Under<'_>,
        config: Option<&Object<BgpPeerConfig>>,
        problems: &mut Vec<Problem>,
    ) -> Result<Option<Password>, ()> {
        if let Under::Peering(Object { id, spec: BGPPeeringSpec { password_ref: Some(named), .. }, .. }) =
            under
            && named.store == SecretStore::OpenBAO
        {
            return self.stored_password(id, named, problems).map(Some);
        }
        let (object, cluster, field, namespace, name, key) = match (under, config) {
            (
                Under::Peering(Object {
                    id, spec: BGPPeeringSpec { password_ref: Some(reference), .. }, ..
                }),
                _,
            ) => {
                let namespace = id.namespace.as_deref().unwrap_or_default();
                (id, &id.cluster, "spec.passwordRef", namespace, &reference.name, reference.key.as_str())
            }
            (_, Some(Object { id, spec: BgpPeerConfig { auth_secret_ref: Some(name), .. }, .. })) => {
                (id, &id.cluster, "spec.authSecretRef", CILIUM_SECRETS, name, "password")
            }
            _ => return Ok(None),
        };
        let mut findings = Findings::on(object, problems);
        let Some(secret) = self.inputs.secret(cluster, namespace, name, key) else {
            let what = format!(
                "there is no Secret {namespace}/{name} with key {key}, and Cilium goes on without a password"
            );
            findings.refuse(field, what, "add the Secret, or remove the reference");
            return Err(());
        };
        usable(secret, field, &format!("Secret {namespace}/{name}"), &mut findings).map(Some)
    }

    /// A password out of OpenBAO. Where it is not known, nothing is made of the peering: what the router has stays.
    fn stored_password(
        &self,
        id: &ObjectId,
        named: &PasswordRef,
        problems: &mut Vec<Problem>,
    ) -> Result<Password, ()> {
        let field = "spec.passwordRef";
        let mut findings = Findings::on(id, problems);
        let namespace = id.namespace.as_deref().unwrap_or_default();
        let Some(entry) = Entry::of_peers(namespace, &named.name) else {
            let what = format!("`{}` names no entry of OpenBAO", named.name);
            findings.refuse(field, what, "use letters, digits, `-`, `_` and `.`");
            return Err(());
        };
        let Some(secret) = self.inputs.stored(&entry, &named.key) else {
            let what = format!("OpenBAO's entry {} with key {} is not known", entry.path(), named.key);
            let way_out = match &self.inputs.store.state {
                None => "start vyos-sync with --openbao",
                Some(StoreState::Answers) => "put it there, below the prefix of --openbao-prefix",
                Some(StoreState::Kept { .. }) => "see the Router's condition SecretStoreReachable",
            };
            findings.refuse(field, what, way_out);
            return Err(());
        };
        usable(secret, field, &format!("OpenBAO's entry {}", entry.path()), &mut findings)
    }
}

/// The password, where VyOS can hold it.
fn usable(
    secret: &SecretBytes,
    field: &str,
    place: &str,
    findings: &mut Findings<'_>,
) -> Result<Password, ()> {
    let fine = secret.text().filter(|text| {
        (1..=80).contains(&text.len()) && text.chars().all(|c| c != '"' && c != '\'' && c.is_ascii_graphic())
    });
    let Some(text) = fine else {
        let what = format!("the password in {place} is not one that VyOS can hold");
        findings.refuse(field, what, "use 1 to 80 printable ASCII characters without blanks and quotes");
        return Err(());
    };
    Ok(Password(text.to_owned()))
}
