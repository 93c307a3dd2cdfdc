//! The coming release as the development machine sees it: what `status` shows and `pack` packs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use entracte_announce::fragment::{self, Audience, Fragment};
use entracte_announce::notes;
use entracte_model::manifest::Delta;
use entracte_model::plan::ReleaseId;
use entracte_model::record::{Base, Named};
use entracte_model::{Hash, Manifest, RelPath, Version};
use entracte_package::PackageError;
use entracte_package::check::{self, Finding};
use entracte_package::git::{self, Commit, GitView};
use entracte_package::scan::{self, Scan};
use entracte_release::clock::now;
use entracte_release::drift::Drift;
use entracte_release::store::Production;
use entracte_release::{Store, Target};

use super::scripts::{self, ScriptTrouble};
use super::{App, diff};
use crate::config::Config;
use crate::exit::Failure;
use crate::remote::Asked;
use crate::report::out;

/// Everything that the next package would be made of.
pub struct Draft {
    /// What production holds.
    pub production: Production,
    /// Its manifest.
    pub base: Arc<Manifest>,
    /// The development tree.
    pub tree: Arc<Manifest>,
    /// What would change.
    pub delta: Delta,
    /// Database scripts that production has not had.
    pub scripts: Vec<PathBuf>,
    /// Change fragments.
    pub fragments: Vec<Fragment>,
    /// The files of `documentation/` that people wrote or fragments give.
    pub documents: Vec<(String, Vec<u8>)>,
    /// What speaks against packing.
    pub findings: Vec<Finding>,
    /// Fragments that cannot be read.
    pub fragment_errors: Vec<String>,
    /// Commits since the last release that no fragment mentions.
    pub unmentioned: Vec<Commit>,
    /// How the development database differs from production with the scripts run.
    pub drift: Drift,
    /// What is wrong with the scripts, seen beside those that production has had.
    pub script_faults: Vec<ScriptTrouble>,
    /// Ignored files, for the count.
    pub ignored: u64,
    /// Whether the tree is under git, so that what git does not know can be found.
    pub under_git: bool,
    /// The commit that is checked out.
    pub commit: Option<String>,
    /// Whether it builds upon nothing: a first installation.
    full: bool,
}

impl Draft {
    /// Looks at everything. `version` is only needed for the heading of the patch notes; `full` is
    /// for a production that holds nothing yet.
    pub fn look(
        app: &App,
        config: &Config,
        target: &Target,
        store: &Store,
        version: &Version,
        full: bool,
    ) -> Result<Self, Failure> {
        let production = match store.production()? {
            Some(production) => production,
            None if full => nothing(version),
            None => {
                return Err(Failure::refused("production is not known yet").hint(
                    "`entracte init --production-version 1.0` takes it as it stands; `entracte \
                     pack 1.0 --full` is for one that holds nothing",
                ));
            }
        };
        let root = config.source_dir();
        let (scan, mut findings) = scan_tree(app, config, target, &root)?;
        // What a scan cannot tell for sure, git itself is asked.
        let view = match scan.committed {
            Some(commit) => Some(GitView { commit: Some(commit), ..GitView::default() }),
            None => git::look(&root)?,
        };
        let (tree, ignored) = (Arc::new(scan.manifest), scan.ignored);
        let base = match &production.base.manifest {
            // The same tree is not loaded once more.
            known if scan.hash.as_ref() == Some(known) => Arc::clone(&tree),
            _ if full => Arc::default(),
            known => Arc::new(store.manifest(known)?),
        };
        let delta = if Arc::ptr_eq(&base, &tree) { Delta::default() } else { base.delta_to(&tree) };
        findings.extend(view.iter().flat_map(|view| check::git(&tree, &delta, view)));
        findings.extend(scan.collisions.into_iter().map(Finding::from));
        findings.extend(check::secrets(&root, &delta));
        let (scripts, script_faults) = scripts::look(config, store)?;
        let (fragments, fragment_errors) = fragments(config, store)?;
        let documents = documents(config, version, &fragments)?;
        // Nothing to release needs no notes.
        if !(delta.is_empty() && scripts.is_empty()) {
            findings.extend(check::patch_notes(&documents, &config.file.languages));
        }
        let drift = match script_faults.is_empty() {
            true => look_for_drift(app, config, target, &scripts)?,
            false => Drift::default(),
        };
        let unmentioned = unmentioned(store, &production, &root, view.as_ref(), &fragments)?;
        // Where nothing would change there is nothing to tell.
        if !(delta.is_empty() && scripts.is_empty()) {
            findings.extend(unmentioned.iter().map(Finding::from));
        }
        findings.retain(|finding| !allowed(finding, &config.file.source.allow));
        let under_git = view.is_some();
        let commit = view.and_then(|view| view.commit);
        Ok(Self {
            production,
            base,
            tree,
            delta,
            scripts,
            fragments,
            documents,
            findings,
            fragment_errors,
            unmentioned,
            drift,
            script_faults,
            ignored,
            under_git,
            commit,
            full,
        })
    }

    /// How many things speak against packing.
    pub fn troubles(&self) -> usize {
        self.findings.len()
            + self.fragment_errors.len()
            + self.script_faults.len()
            + self.drift.len()
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.delta.is_empty() && self.scripts.is_empty()
    }

    /// What the next package builds upon; nothing for a first installation.
    pub fn base(&self) -> Option<(Base, &Manifest)> {
        (!self.full).then(|| (self.production.base.clone(), &*self.base))
    }

    /// The change fragments as a record names them.
    pub fn named_fragments(&self) -> Vec<Named> {
        let named = |fragment: &Fragment| {
            let name = format!("{}.md", fragment.slug).parse().ok()?;
            Some(Named { name, size: 0, hash: fragment.hash })
        };
        self.fragments.iter().filter_map(named).collect()
    }
}

/// What a production holds that holds nothing: an empty tree, which no version is.
fn nothing(version: &Version) -> Production {
    let base = Base { version: version.clone(), manifest: Manifest::default().hash() };
    Production { release: ReleaseId(0), base, sequence: 0, since: now() }
}

/// Whether a finding is allowed, by its kind (`untracked`) or for one path (`untracked:notes.txt`).
pub fn allowed(finding: &Finding, allow: &[String]) -> bool {
    let code = finding.code();
    let text = finding.to_string();
    finding.can_be_allowed()
        && allow.iter().any(|entry| match entry.split_once(':') {
            Some((kind, path)) => {
                kind == code
                    && (text.starts_with(&format!("{path} "))
                        || text.starts_with(&format!("{path}:")))
            }
            None => entry == code,
        })
}

/// Paths below the development tree that are about the game and not part of it.
fn aside(config: &Config, target: &Target, root: &Path) -> Vec<RelPath> {
    let source = &config.file.source;
    let mut paths = vec![
        config.path.clone(),
        config.at(&source.scripts),
        config.at(&source.changes),
        config.at(&source.dist),
        config.dir.join("documentation"),
        target.state.clone(),
        target.root.clone(),
        target.beside(),
        config.secret_key(),
    ];
    paths.extend(
        config
            .file
            .development
            .database
            .iter()
            .filter_map(|d| d.path.as_ref())
            .map(|p| config.at(p)),
    );
    let below = paths.iter().filter_map(|path| path.strip_prefix(root).ok());
    below.filter_map(|path| path.to_str()?.parse().ok()).chain(target.outside()).collect()
}

fn scan_tree(
    app: &App,
    config: &Config,
    target: &Target,
    root: &Path,
) -> Result<(Scan, Vec<Finding>), Failure> {
    let mut rules = scan::Rules {
        ignore_files: true,
        skip: aside(config, target, root),
        file_bytes_max: config.file.source.file_max.bytes,
    };
    let cache = config.scan_cache();
    // Without its folder the cache cannot be kept: that costs time only.
    let _ = cache.parent().map(std::fs::create_dir_all);
    let mut findings = Vec::new();
    // What cannot be packed is a finding; the rest is looked at without it, so that one run names
    // all that is wrong.
    loop {
        match scan::tree(root, &rules, Some(&cache), &mut app.meter().of("reading")) {
            Ok(scan) => return Ok((scan, findings)),
            Err(PackageError::Refused(refused)) => {
                let before = rules.skip.len();
                rules.skip.extend(refused.iter().filter_map(|refused| refused.path.parse().ok()));
                findings.extend(refused.into_iter().map(Finding::from));
                if rules.skip.len() == before {
                    let list: Vec<String> = findings.iter().map(ToString::to_string).collect();
                    return Err(
                        Failure::refused(list.join("; ")).hint("rename what cannot be packed")
                    );
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Fragments that no earlier release consumed, and what is wrong with those that cannot be read.
fn fragments(config: &Config, store: &Store) -> Result<(Vec<Fragment>, Vec<String>), Failure> {
    let dir = config.at(&config.file.source.changes);
    if !dir.is_dir() {
        return Ok((vec![], vec![]));
    }
    let consumed = store.consumed_fragments()?;
    match fragment::read_folder(&dir) {
        Ok(fragments) => {
            let fresh = fragments
                .into_iter()
                .filter(|fragment| !consumed.contains(&fragment.hash))
                .collect();
            Ok((fresh, vec![]))
        }
        Err(errors) => Ok((vec![], errors.iter().map(ToString::to_string).collect())),
    }
}

/// Patch notes: a person's own file wins over what the fragments give.
fn documents(
    config: &Config,
    version: &Version,
    fragments: &[Fragment],
) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let own = config.dir.join("documentation");
    let date = jiff::ZonedDateTime::now().strftime("%Y-%m-%d").to_string();
    let told = fragments.iter().any(|fragment| fragment.audience == Audience::Players);
    let mut documents = Vec::new();
    for language in &config.file.languages {
        let name = format!("PATCHNOTES.{language}.md");
        let path = own.join(&name);
        let text = if path.is_file() {
            std::fs::read(&path)?
        } else if told
            && notes::missing_languages(fragments, std::slice::from_ref(language)).is_empty()
        {
            notes::patch_notes(version, &date, language, fragments).into_bytes()
        } else {
            continue;
        };
        documents.push((name, text));
    }
    Ok(documents)
}

fn look_for_drift(
    app: &App,
    config: &Config,
    target: &Target,
    waiting: &[PathBuf],
) -> Result<Drift, Failure> {
    let waiting = scripts::read(waiting.to_vec(), &target.placeholders)?;
    match diff::compare(app, config, target, &waiting, None)? {
        Some(Asked::Answered(answer)) => Ok(answer.drift),
        Some(Asked::Not(why)) => {
            out::note(format!(
                "note: the development database was not compared: {why}; `entracte rehearse` runs \
                 the scripts on a copy there"
            ));
            Ok(Drift::default())
        }
        None => Ok(Drift::default()),
    }
}

/// The setting that remembers of which commit the tree with this hash was packed.
pub fn commit_of(manifest: &Hash) -> String {
    format!("commit of {manifest}")
}

/// Commits since the one that production was packed of whose id or files no fragment refers to.
fn unmentioned(
    store: &Store,
    production: &Production,
    root: &Path,
    view: Option<&GitView>,
    fragments: &[Fragment],
) -> Result<Vec<Commit>, Failure> {
    let Some(commit) = view.and_then(|view| view.commit.as_ref()) else { return Ok(vec![]) };
    let Some(since) = store.setting(&commit_of(&production.base.manifest))? else {
        return Ok(vec![]);
    };
    if since == *commit {
        return Ok(vec![]);
    }
    let commits = git::commits_between(root, Some(&since)).unwrap_or_default();
    let mentioned = |commit: &Commit| {
        let by_ref = fragments.iter().flat_map(|fragment| &fragment.refs);
        let mut by_ref = by_ref.filter(|reference| reference.len() >= 7);
        let has_fragment = commit
            .files
            .iter()
            .any(|file| file.name().ends_with(".md") && file.as_str().contains("changes/"));
        has_fragment || by_ref.any(|reference| commit.id.starts_with(reference.as_str()))
    };
    Ok(commits.into_iter().filter(|commit| !mentioned(commit)).collect())
}
