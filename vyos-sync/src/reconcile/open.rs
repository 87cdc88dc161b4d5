//! A session: the way to a router by its Router object's endpoints, proof and key, and what is asked of it.

use crate::{
    compile,
    config::{Dialect, Schema, Tree},
    crd::{ApiKey as KeyRef, RouterSpec, Tls},
    inputs::{ClusterName, Entry, Inputs, Object, SecretBytes, StoreState},
    live::Live,
    pacing::Fight,
    pass::Error,
    store::Store,
    vyos::{ApiError, ApiKey, Client, Endpoint, KeySource, Timing, Trust},
};

use super::{Recorder, Session};

/// The endpoints of a Router object, in its order.
///
/// # Errors
/// The field that does not make sense.
pub fn endpoints(router: &Object<RouterSpec>, inputs: &Inputs) -> Result<Vec<Endpoint>, Error> {
    let name = &router.id.name;
    let trust = trust(name, &router.spec.tls)?;
    let key = key(name, &router.spec.api_key, inputs)?;
    let each = |url: &String| Endpoint { url: url.clone(), trust: trust.clone(), key: key.clone() };
    Ok(router.spec.endpoints.iter().map(each).collect())
}

/// Whether the object tells how its router is to be reached. Files that it names are not read.
///
/// # Errors
/// The field that does not make sense.
pub fn judge(router: &Object<RouterSpec>) -> Result<(), Error> {
    let (name, tls) = (&router.id.name, &router.spec.tls);
    if let Some(url) = router.spec.endpoints.iter().find(|url| !url.starts_with("https://")) {
        let what = format!("`{url}` must start with https://");
        return Err(Error::Router { router: name.clone(), field: "spec.endpoints", what });
    }
    if tls.spki_pins.is_empty() && tls.ca_bundle.is_none() && tls.ca_file.is_some() {
        return Ok(());
    }
    let usable = trust(name, tls)?.config().map(drop);
    usable.map_err(|source| Error::Trust { router: name.clone(), source })
}

fn trust(router: &str, tls: &Tls) -> Result<Trust, Error> {
    if !tls.spki_pins.is_empty() {
        return Trust::pins(&tls.spki_pins)
            .map_err(|source| Error::Trust { router: router.to_owned(), source });
    }
    let wrong = |field, what: String| Error::Router { router: router.to_owned(), field, what };
    let pem = match (&tls.ca_bundle, &tls.ca_file) {
        (Some(pem), _) => pem.clone(),
        (None, Some(file)) => {
            std::fs::read_to_string(file).map_err(|e| wrong("spec.tls.caFile", format!("{file}: {e}")))?
        }
        (None, None) => return Err(wrong("spec.tls", "give caBundle, caFile or spkiPins".to_owned())),
    };
    Ok(match &tls.server_name {
        Some(name) => Trust::CaNamed(pem, name.clone()),
        None => Trust::Ca(pem),
    })
}

fn key(router: &str, key: &KeyRef, inputs: &Inputs) -> Result<KeySource, Error> {
    let wrong = |what: String| Error::Router { router: router.to_owned(), field: "spec.apiKey", what };
    if let Some(file) = &key.file {
        return Ok(KeySource::File(file.into()));
    }
    let missing = || match (&key.secret_ref, &key.open_bao, &inputs.store.state) {
        (Some(named), ..) => {
            wrong(format!("Secret {}/{} has no usable `{}`", named.namespace, named.name, named.key))
        }
        (None, Some(_), Some(StoreState::Kept { reason, text })) => {
            Error::Store { router: router.to_owned(), reason, what: text.clone() }
        }
        (None, Some(_), None) => wrong("start vyos-sync with --openbao, or give a file".to_owned()),
        (None, Some(named), _) => {
            wrong(format!("OpenBAO's entry routers/{} has no usable `{}`", named.name, named.key))
        }
        (None, None, _) => wrong("give secretRef, file or openBao".to_owned()),
    };
    let text = value(key, inputs).and_then(SecretBytes::text).and_then(ApiKey::new);
    text.map(KeySource::Given).ok_or_else(missing)
}

/// The key's value, where it is not in a file.
fn value<'a>(key: &KeyRef, inputs: &'a Inputs) -> Option<&'a SecretBytes> {
    match (&key.secret_ref, &key.open_bao) {
        (Some(named), _) => inputs.secret(&ClusterName::local(), &named.namespace, &named.name, &named.key),
        (None, Some(named)) => inputs.stored(&Entry::of_router(&named.name)?, &named.key),
        (None, None) => None,
    }
}

/// All that a session depends on, as one text that never leaves this process.
pub fn print(spec: &RouterSpec, inputs: &Inputs) -> String {
    use sha2::{Digest, Sha256};
    let mut digest = Sha256::new();
    digest.update(format!(
        "{:?}{:?}{:?}{:?}{:?}",
        spec.endpoints, spec.tls, spec.api_key, spec.dialect, spec.probes
    ));
    digest.update(value(&spec.api_key, inputs).map(SecretBytes::bytes).unwrap_or_default());
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Session {
    /// Finds the first endpoint that answers, and the release's dialect unless it is fixed.
    ///
    /// # Errors
    /// No endpoint answers, or the Router object does not make sense.
    pub async fn open(
        router: &Object<RouterSpec>,
        inputs: &Inputs,
        store: Store,
        dialect: Option<Dialect>,
        schema: Option<Schema>,
    ) -> Result<Self, Error> {
        Self::open_timed(router, inputs, store, dialect, schema, Timing::default()).await
    }

    /// The same, with other times to wait for the router.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_timed(
        router: &Object<RouterSpec>,
        inputs: &Inputs,
        store: Store,
        dialect: Option<Dialect>,
        schema: Option<Schema>,
        timing: Timing,
    ) -> Result<Self, Error> {
        let name = router.id.name.clone();
        let client = first_to_answer(&name, endpoints(router, inputs)?, timing).await?;
        let fixed = dialect.or_else(|| compile::fixed_dialect(&router.spec));
        let (dialect, version) = match fixed {
            Some(dialect) => (dialect, None),
            None => ask_dialect(&name, &client).await?,
        };
        let schema = schema.unwrap_or_else(|| Schema::built_in(dialect).clone());
        let seal = store.seal()?;
        let live = Live::new(client, store, &router.spec.probes)
            .map_err(|source| Error::Probes { router: name.clone(), source })?;
        Ok(Self {
            name,
            live,
            dialect,
            version,
            generation: None,
            schema,
            fight: Fight::default(),
            recordings: None,
            told: (0, 0),
            seal,
            opened_with: print(&router.spec, inputs),
            sighted: None,
        })
    }

    /// Records every pass that has something to do.
    #[must_use]
    pub fn recording(mut self, recorder: Recorder) -> Self {
        self.recordings = Some(recorder);
        self
    }

    /// The [`print`] of what it was opened with.
    pub fn opened_with(&self) -> &str {
        &self.opened_with
    }

    /// The router's syntax, and its version's text where it was asked.
    pub fn release(&self) -> (Dialect, Option<&str>) {
        (self.dialect, self.version.as_deref())
    }

    /// The router's API.
    pub fn client(&self) -> &Client {
        &self.live.client
    }

    /// Requests and commits so far.
    pub fn sent(&self) -> (u64, u64) {
        self.live.client.sent()
    }

    /// Requests and commits since the last time that this was asked.
    pub fn sent_since(&mut self) -> (u64, u64) {
        let (now, told) = (self.sent(), self.told);
        self.told = now;
        (now.0 - told.0, now.1 - told.1)
    }

    /// What the router holds.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn running(&self) -> Result<Tree, Error> {
        self.live.running().await.map_err(|source| self.api(source))
    }
}

async fn first_to_answer(name: &str, endpoints: Vec<Endpoint>, timing: Timing) -> Result<Client, Error> {
    let mut last = None;
    let several = endpoints.len() > 1;
    for endpoint in endpoints {
        let client = Client::new(endpoint, timing);
        let client = client.map_err(|source| Error::Client { router: name.to_owned(), source })?;
        if !several {
            return Ok(client);
        }
        match client.show(&["version"]).await {
            Err(e @ ApiError::Unreachable { .. }) => last = Some(e),
            _ => return Ok(client),
        }
    }
    let source = last.unwrap_or(ApiError::Unreachable { why: "no endpoint is given".to_owned() });
    Err(Error::Api { router: name.to_owned(), source })
}

async fn ask_dialect(name: &str, client: &Client) -> Result<(Dialect, Option<String>), Error> {
    let release = client.release().await.map_err(|source| Error::Api { router: name.to_owned(), source })?;
    let dialect = match release.number() {
        Some((1, 4)) => Dialect::V1_4,
        Some((1, minor)) if minor < 4 => {
            let what =
                format!("VyOS {} is older than 1.4, which is the oldest that is known here", release.version);
            return Err(Error::Router { router: name.to_owned(), field: "spec.dialect", what });
        }
        _ => Dialect::V1_5,
    };
    Ok((dialect, Some(release.version)))
}
