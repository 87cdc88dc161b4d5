//! The other nodes that this one probes: a sample of their names, and the addresses of those few. Asked for now and then instead
//! of watched: a list of names is all that a large cluster costs.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1;
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::ApiResource;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Cluster, chain, chance};
use crate::cluster::core;
use crate::model::mesh::{Peer, peers_of, sample};
use crate::state::Event;

/// Between two looks, at least,
const EVERY: Duration = Duration::from_secs(600);
/// and after one that failed.
const AGAIN: Duration = Duration::from_secs(20);
/// Names in one page, and pages: of more nodes than that, some are asked by nobody.
const PAGE: u32 = 500;
const PAGES: u32 = 20;

/// Tells whom to probe, until `stop`.
pub async fn follow_peers(cluster: Cluster, events: mpsc::Sender<Vec<Event>>, stop: CancellationToken) {
    let api: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &ApiResource::erase::<v1::Node>(&()));
    loop {
        let looked = tokio::select! {
            () = stop.cancelled() => return,
            looked = peers(&api, &cluster.node) => looked,
        };
        let wait = match looked {
            Ok(peers) => {
                if events.send(vec![Event::Peers(Arc::new(peers))]).await.is_err() {
                    return;
                }
                EVERY
            }
            Err(error) => {
                // Whether the server answers at all is told elsewhere; those that were known are asked on.
                tracing::debug!(error = chain(&error), "the other nodes are not known");
                AGAIN
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait.mul_f64(1.0 + chance() / 2.0)) => {}
        }
    }
}

async fn peers(api: &Api<DynamicObject>, own: &str) -> kube::Result<Vec<Peer>> {
    let mut names = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    for _ in 0..PAGES {
        let list = api.list_metadata(&page).await?;
        names.extend(list.items.iter().map(|node| node.name_any()));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    let mut peers = Vec::new();
    for name in sample(own, names.iter().map(String::as_str)) {
        // The account may list and watch.
        let one = api.list(&ListParams::default().fields(&format!("metadata.name={name}"))).await?;
        for object in one.items {
            let read = serde_json::to_value(object).map_err(|error| error.to_string());
            match read.and_then(|document| core::node(name.to_owned(), &document)) {
                Ok(node) => peers.extend(peers_of(&node)),
                Err(why) => {
                    tracing::debug!(node = name, why, "a Node cannot be understood: it is not probed")
                }
            }
        }
    }
    Ok(peers)
}
