//! Policies from a file or a folder, and from the copy of those of the cluster, with the files of prefixes that they name.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use thiserror::Error;
use weir_api::manifest::text;

use crate::model::policy::kind::{API_VERSION, DatapathPolicy, KIND};
use crate::model::policy::{Problem, Reason, Source};

/// Where policies are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// File or folder on this node.
    pub local: Option<PathBuf>,
    /// File with the cluster's policies as they were last known; until there is one, the cluster has told of none.
    pub cluster: Option<PathBuf>,
}

/// The path cannot be read at all.
#[derive(Debug, Error)]
#[error("cannot read policies from {path}")]
pub struct FolderError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Read {
    /// The policies.
    pub sources: Vec<Source>,
    /// Files and documents that are none; they stand in nobody's way.
    pub problems: Vec<Problem>,
    /// Whether something could not be understood at all: any policy that is missing may have been there.
    pub in_doubt: bool,
}

impl Read {
    /// What is to be in force, by name. What is missing while something cannot be understood stays as it is in force.
    pub(super) fn wanted(&self, in_force: &[Source]) -> Vec<Source> {
        let name = |source: &Source| source.policy.metadata.name.clone();
        let known: Vec<_> = self.sources.iter().map(name).collect();
        let missing = in_force.iter().filter(|source| self.in_doubt && !known.contains(&name(source)));
        let mut wanted: Vec<Source> = self.sources.iter().chain(missing).cloned().collect();
        wanted.sort_by_key(name);
        wanted
    }

    fn not_understood(&mut self, file: &Path, document: &str, error: &str) {
        let kind = value(document).and_then(|document| Some(document.get("kind")?.as_str()? == KIND));
        self.in_doubt |= kind != Some(false);
        let (field, text) = misfit(document).unwrap_or_else(|| (String::new(), error.to_owned()));
        self.problems.push(Problem { field, ..not_a_policy(file, document, &text) });
    }
}

/// Files as they were when they were read: they are read again only when one differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp(BTreeMap<PathBuf, Option<(SystemTime, u64)>>);

impl Stamp {
    fn add(&mut self, path: &Path) {
        let seen = fs::metadata(path).ok().and_then(|data| Some((data.modified().ok()?, data.len())));
        self.0.insert(path.to_owned(), seen);
    }

    /// Whether all is as it was: the same files, of the same age and size.
    pub(super) fn holds(&self, places: &Places) -> bool {
        let listed = places.local.as_deref().map(files).transpose().unwrap_or_default().unwrap_or_default();
        listed.iter().all(|path| self.0.contains_key(path))
            && self.0.iter().all(|(path, seen)| {
                let mut now = Self::default();
                now.add(path);
                now.0.get(path) == Some(seen)
            })
    }
}

/// Reads a file of policies, or all `.yaml`, `.yml` and `.json` files of a folder.
///
/// # Errors
/// When the path cannot be read. What is wrong in one document is told and leaves the others alone.
pub fn read(path: &Path) -> Result<Read, FolderError> {
    read_all(&Places { local: Some(path.to_owned()), cluster: None }).map(|(read, _)| read)
}

/// Reads the policies of all places.
///
/// # Errors
/// As [`read`].
pub(super) fn read_all(places: &Places) -> Result<(Read, Stamp), FolderError> {
    let failed = |path: &Path, source| FolderError { path: path.to_owned(), source };
    let (mut read, mut stamp) = (Read::default(), Stamp::default());
    if let Some(path) = &places.local {
        for file in files(path).map_err(|error| failed(path, error))? {
            stamp.add(&file);
            match text(&file) {
                Ok(text) => documents(&file, &text, &Sets::Beside(&file), &mut read, &mut stamp),
                Err(error) => read.not_understood(&file, "", &error.to_string()),
            }
        }
    }
    if let Some(file) = &places.cluster {
        stamp.add(file);
        match text(file) {
            Ok(text) => documents(file, &text, &Sets::Below(places.local.as_deref()), &mut read, &mut stamp),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(file, error)),
        }
    }
    Ok((read, stamp))
}

/// Where the files of a policy's sets are.
enum Sets<'a> {
    /// Beside the file of the policy, or anywhere on this node.
    Beside(&'a Path),
    /// In this folder alone: who may write policies into the cluster may not read every file of a node.
    Below(Option<&'a Path>),
}

impl Sets<'_> {
    fn path(&self, name: &str) -> Result<PathBuf, String> {
        match self {
            Self::Beside(file) => Ok(file.parent().unwrap_or(Path::new(".")).join(name)),
            Self::Below(Some(folder)) if folder.is_dir() => {
                let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
                let outside = "it is not below the folder of --policy; files of the cluster's policies are read there alone";
                if plain { Ok(folder.join(name)) } else { Err(outside.to_owned()) }
            }
            Self::Below(_) => {
                Err("there is no folder for it; give one by --policy, or write the prefixes into the policy"
                    .to_owned())
            }
        }
    }
}

fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let kind = path.extension().and_then(|kind| kind.to_str());
        if matches!(kind, Some("yaml" | "yml" | "json")) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn documents(file: &Path, text: &str, sets: &Sets<'_>, read: &mut Read, stamp: &mut Stamp) {
    // A separator at the start of a line; prefixes never begin with one.
    for document in text.split("\n---").map(|text| text.trim_start_matches("---")) {
        let blank = document.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
        if blank {
            continue;
        }
        match serde_saphyr::from_str::<DatapathPolicy>(document) {
            Ok(policy) if policy.api_version != API_VERSION || policy.kind != KIND => {
                let text = format!(
                    "it is {} of {}; {KIND} of {API_VERSION} is read here",
                    policy.kind, policy.api_version
                );
                read.problems.push(not_a_policy(file, document, &text));
            }
            Ok(policy) => {
                let files = prefixes(sets, &policy, stamp);
                read.sources.push(Source { policy, files });
            }
            Err(error) => read.not_understood(file, document, &error.to_string()),
        }
    }
}

/// The field of a policy that is of another type than it should be, and what is wrong with it. `None` where the document has no
/// fields.
fn misfit(document: &str) -> Option<(String, String)> {
    let fields = value(document).filter(serde_json::Value::is_object)?;
    let error = serde_path_to_error::deserialize::<_, DatapathPolicy>(fields).err()?;
    let field = error.path().to_string();
    Some((field.trim_start_matches("spec.").to_owned(), error.into_inner().to_string()))
}

fn value(document: &str) -> Option<serde_json::Value> {
    serde_saphyr::from_str(document).ok()
}

/// The texts of a policy's files of prefixes.
fn prefixes(
    sets: &Sets<'_>,
    policy: &DatapathPolicy,
    stamp: &mut Stamp,
) -> BTreeMap<String, Result<String, String>> {
    let names = policy.spec.sets.iter().filter_map(|set| set.file.clone());
    names
        .map(|name| {
            let read = sets.path(&name).and_then(|path| {
                stamp.add(&path);
                text(&path).map_err(|error| error.to_string())
            });
            (name, read)
        })
        .collect()
}

/// By the name in the document, else by its file's.
fn not_a_policy(file: &Path, document: &str, text: &str) -> Problem {
    let document = value(document);
    let name = document.as_ref().and_then(|document| document.pointer("/metadata/name")?.as_str());
    let file = file.file_name().unwrap_or_default().to_string_lossy();
    let policy = name.unwrap_or(&file).to_owned();
    let text = text.lines().next().unwrap_or_default().to_owned();
    Problem { policy, field: String::new(), reason: Reason::NotAPolicy, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "apiVersion: weir.dev/v1alpha1\nkind: DatapathPolicy\nmetadata: {name: one}\nspec:\n  sets: [{name: bad, file: bad.txt}]\n";

    #[test]
    fn a_broken_document_leaves_the_others_alone() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("# first\n---\n{POLICY}---\nkind: Pod\n---\nspec: [\n");
        fs::write(folder.path().join("a.yaml"), text).unwrap();
        fs::write(folder.path().join("b.yaml"), POLICY.replace("one", "two")).unwrap();
        fs::write(folder.path().join("notes.txt"), "nothing").unwrap();
        fs::write(folder.path().join("bad.txt"), "192.0.2.1\n").unwrap();
        let places = Places { local: Some(folder.path().to_owned()), cluster: None };
        let (read, stamp) = read_all(&places).unwrap();
        let names: Vec<_> = read.sources.iter().map(|one| one.policy.metadata.name.as_str()).collect();
        assert_eq!(names, ["one", "two"]);
        assert_eq!(read.problems.len(), 2, "{:?}", read.problems);
        assert_eq!(read.sources[0].files["bad.txt"], Ok("192.0.2.1\n".to_owned()));
        assert!(stamp.holds(&places));
        fs::write(folder.path().join("bad.txt"), "192.0.2.1\n192.0.2.2\n").unwrap();
        assert!(!stamp.holds(&places), "a set's file counts");
    }

    #[test]
    fn what_cannot_be_understood_takes_no_policy_out_of_force() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        fs::write(&file, format!("{POLICY}---\n{}", POLICY.replace("one", "two"))).unwrap();
        let in_force = read(folder.path()).unwrap().wanted(&[]);
        assert_eq!(in_force.len(), 2);
        fs::write(&file, format!("{POLICY}---\n{}", POLICY.replace("one", "two").replace("sets:", "stes:")))
            .unwrap();
        let broken = read(folder.path()).unwrap();
        assert_eq!(
            (broken.in_doubt, broken.problems[0].policy.as_str()),
            (true, "two"),
            "{:?}",
            broken.problems
        );
        assert_eq!(broken.wanted(&in_force), in_force);
        assert_eq!(broken.wanted(&[]).len(), 1);
        fs::write(&file, format!("{POLICY}---\nkind: Pod\n")).unwrap();
        assert_eq!(read(folder.path()).unwrap().wanted(&in_force).len(), 1, "a Pod was never a policy");
    }

    #[test]
    fn a_field_of_another_type_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let rules = "  rules: [{name: a, action: Deny, match: {protocol: UDP, ports: {http: 80}}}]\n";
        fs::write(folder.path().join("a.yaml"), format!("{POLICY}{rules}")).unwrap();
        let read = read(folder.path()).unwrap();
        let [problem] = &read.problems[..] else { panic!("{:?}", read.problems) };
        assert_eq!((problem.policy.as_str(), problem.field.as_str()), ("one", "rules[0].match.ports"));
        assert!(problem.text.contains("expected a sequence"), "{}", problem.text);
    }

    #[test]
    fn what_has_no_fields_is_not_said_to_have_a_wrong_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        for text in [&b"\xff\xfek\0i\0n\0d\0"[..], b"- kind: DatapathPolicy", b"DatapathPolicy"] {
            fs::write(&file, text).unwrap();
            let read = read(folder.path()).unwrap();
            let [problem] = &read.problems[..] else { panic!("{:?}", read.problems) };
            assert_eq!((problem.policy.as_str(), problem.field.as_str()), ("a.yaml", ""), "{}", problem.text);
            assert!(!problem.text.is_empty());
        }
    }

    #[test]
    fn policies_of_the_cluster_read_files_of_one_folder_alone() {
        let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let cluster = state.path().join("cluster.yaml");
        let mut places = Places { local: None, cluster: Some(cluster.clone()) };
        let (none, stamp) = read_all(&places).unwrap();
        assert_eq!(none, Read::default());
        assert!(stamp.holds(&places));
        fs::write(folder.path().join("bad.txt"), "192.0.2.1\n").unwrap();
        let sets = "[{name: a, file: bad.txt}, {name: b, file: /etc/hostname}, {name: c, file: ../bad.txt}]";
        fs::write(&cluster, POLICY.replace("[{name: bad, file: bad.txt}]", sets)).unwrap();
        assert!(!stamp.holds(&places));
        let readable = |places: &Places| {
            let (read, _) = read_all(places).unwrap();
            read.sources[0]
                .files
                .iter()
                .filter(|(_, text)| text.is_ok())
                .map(|(name, _)| name.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(readable(&places), Vec::<String>::new());
        places.local = Some(folder.path().to_owned());
        assert_eq!(readable(&places), ["bad.txt"]);
    }

    #[test]
    fn a_missing_path_is_named() {
        let error = read(Path::new("/nowhere/policy.yaml")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/policy.yaml"));
    }
}
