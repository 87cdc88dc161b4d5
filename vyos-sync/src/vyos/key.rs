//! The API key: a value that cannot be printed, and where it is read from.

use std::{fmt, path::PathBuf};

/// An API key. `Debug` and `Display` never show it.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// A key from text; surrounding white space (a file's last newline) is not part of it.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    /// The key itself, for the request body only.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(hidden)")
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// Where the key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file, read again for every request: a rotated key is used at once.
    File(PathBuf),
    /// A key that the caller keeps current (a Secret among the manifests).
    Given(ApiKey),
}

impl KeySource {
    /// Reads the key.
    ///
    /// # Errors
    /// The file cannot be read, or holds nothing.
    pub fn read(&self) -> std::io::Result<ApiKey> {
        let path = match self {
            Self::Given(key) => return Ok(key.clone()),
            Self::File(path) => path,
        };
        let text = std::fs::read_to_string(path)
            .map_err(|e| std::io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
        ApiKey::new(&text).ok_or_else(|| {
            std::io::Error::new(std::io::ErrorKind::InvalidData, format!("{}: no key in it", path.display()))
        })
    }
}

/// Takes secrets out of texts that a server may have echoed.
#[derive(Clone, Default)]
pub struct Redactor {
    secrets: Vec<String>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} hidden)", self.secrets.len())
    }
}

impl Redactor {
    const LONGEST: usize = 2_000;

    /// A redactor for these values. Empty ones are ignored.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut secrets: Vec<String> = secrets.into_iter().filter(|s| !s.is_empty()).collect();
        // Longest first: a secret that contains another must not leave its tail behind.
        secrets.sort_by_key(|s| std::cmp::Reverse(s.len()));
        Self { secrets }
    }

    /// The same with the key added.
    pub fn with_key(&self, key: &ApiKey) -> Self {
        Self::new(self.secrets.iter().cloned().chain([key.expose().to_owned()]))
    }

    /// The text without secrets, HTML entities resolved (1.5 escapes `&<>`), cut at 2,000 characters.
    pub fn clean(&self, text: &str) -> String {
        let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        let hidden = self.secrets.iter().fold(text, |text, secret| text.replace(secret, "[hidden]"));
        match hidden.char_indices().nth(Self::LONGEST) {
            Some((cut, _)) => format!("{}...", &hidden[..cut]),
            None => hidden,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_printed() {
        let key = ApiKey::new("s3cret\n").unwrap();
        assert_eq!(format!("{key} {key:?}"), "[hidden] ApiKey(hidden)");
        let all = format!("{:?}", KeySource::Given(key.clone()));
        assert!(!all.contains("s3cret"), "{all}");
        let clean = Redactor::default().with_key(&key);
        assert!(!format!("{clean:?}").contains("s3cret"));
    }

    #[test]
    fn an_echoed_key_is_hidden() {
        let clean = Redactor::new(["s3cret".into(), "s3cret-long".into(), String::new()]);
        let echo = "{'input': {'op': 'confirm', 'key': 's3cret-long'}} &lt;b&gt; &amp;amp; s3cret";
        assert_eq!(clean.clean(echo), "{'input': {'op': 'confirm', 'key': '[hidden]'}} <b> &amp; [hidden]");
    }

    #[test]
    fn a_rotated_key_file_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let source = KeySource::File(path.clone());
        assert!(source.read().unwrap_err().to_string().contains("key"));
        std::fs::write(&path, "one\n").unwrap();
        assert_eq!(source.read().unwrap().expose(), "one");
        std::fs::write(&path, "two\n").unwrap();
        assert_eq!(source.read().unwrap().expose(), "two");
        std::fs::write(&path, "\n").unwrap();
        assert!(source.read().is_err());
    }
}
