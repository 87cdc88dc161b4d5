//! The control endpoint: how a test or a person tells the router to misbehave, and sees what it did.
//!
//! `GET /state`, `GET /journal`, `GET /running` (set commands), `GET|POST|DELETE /faults` (one a line), `POST /edit`
//! (`set`/`delete` lines, as from the router's own command line), `POST /reboot`.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vyos_sync::config::print;

use crate::fault::Fault;
use crate::machine::Machine;

/// Where it listens.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Opens it. Gives the address where it is on TCP.
pub(crate) async fn serve(
    place: &Place,
    machine: Arc<Machine>,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> io::Result<Option<SocketAddr>> {
    let app = Router::new()
        .route("/state", get(state))
        .route("/journal", get(journal))
        .route("/running", get(running))
        .route("/faults", get(faults).post(add_faults).delete(clear_faults))
        .route("/edit", post(edit))
        .route("/reboot", post(reboot))
        .with_state(machine);
    let stop = stop.clone();
    match place {
        Place::Tcp(address) => {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            tasks.spawn(async move {
                // Errors of single connections end those only.
                let _ = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await;
            });
            Ok(Some(address))
        }
        Place::Unix(path) => {
            let listener = UnixListener::bind(path)?;
            let path = path.clone();
            tasks.spawn(async move {
                let _ = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await;
                let _ = std::fs::remove_file(path);
            });
            Ok(None)
        }
    }
}

async fn state(State(machine): State<Arc<Machine>>) -> Json<Value> {
    Json(json!({
        "commits": machine.commits(), "boots": machine.boot_count(), "saved": machine.is_saved(),
        "off": machine.is_off(), "requests": machine.journal().len(),
    }))
}

async fn journal(State(machine): State<Arc<Machine>>) -> Json<Value> {
    let entries = machine.journal();
    Json(
        entries.iter().map(|e| json!({"endpoint": e.endpoint, "call": e.call, "status": e.status})).collect(),
    )
}

async fn running(State(machine): State<Arc<Machine>>) -> String {
    print::commands(&machine.running())
}

async fn faults(State(machine): State<Arc<Machine>>) -> String {
    machine.faults().list().iter().map(|fault| format!("{fault}\n")).collect()
}

async fn add_faults(State(machine): State<Arc<Machine>>, body: String) -> (StatusCode, String) {
    let parsed: Result<Vec<Fault>, _> =
        body.split([',', '\n']).map(str::trim).filter(|w| !w.is_empty()).map(str::parse).collect();
    match parsed {
        Ok(faults) => {
            faults.into_iter().for_each(|fault| machine.faults().add(fault));
            (StatusCode::OK, String::new())
        }
        Err(e) => (StatusCode::BAD_REQUEST, format!("{e}\n")),
    }
}

async fn clear_faults(State(machine): State<Arc<Machine>>) {
    machine.faults().clear();
    machine.restore_link();
}

async fn edit(State(machine): State<Arc<Machine>>, body: String) -> (StatusCode, String) {
    match machine.edit_lines(&body).await {
        Ok(()) => (StatusCode::OK, String::new()),
        Err(text) => (StatusCode::BAD_REQUEST, text),
    }
}

async fn reboot(State(machine): State<Arc<Machine>>) {
    machine.restart();
}
