//! `init`, `validate` and `apply`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use cdflow_console::api::{Configuration as Stored, ConfigurationReplaced, Document, ReplaceConfiguration};
use cdflow_pipeline::{Configuration, SourceFile};
use console::style;

use crate::{client::Client, exit::Failure, show};

/// `cdflow init`.
#[derive(Debug, clap::Args)]
pub(crate) struct InitOptions {
    /// Where the documents go; made if it is missing.
    #[arg(default_value = "cdflow")]
    directory: PathBuf,
}

/// `cdflow validate`.
#[derive(Debug, clap::Args)]
pub(crate) struct ValidateOptions {
    /// A directory with YAML documents, or one file.
    #[arg(default_value = "cdflow")]
    path: PathBuf,
}

/// `cdflow apply`.
#[derive(Debug, clap::Args)]
pub(crate) struct ApplyOptions {
    /// A directory with YAML documents, or one file: all documents of the project.
    #[arg(default_value = "cdflow")]
    path: PathBuf,
    /// Leave documents alone that are applied and not among these; else they are removed.
    #[arg(long)]
    keep_others: bool,
    /// Check everything, also on the server, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn init(options: &InitOptions) -> Result<()> {
    let files = cdflow_pipeline::init_example();
    if let Some(there) = files.iter().map(|file| options.directory.join(&file.path)).find(|path| path.exists()) {
        bail!("{} is already there: nothing was written", there.display());
    }
    for file in files {
        let path = options.directory.join(&file.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        }
        fs::write(&path, file.text).with_context(|| format!("write {}", path.display()))?;
        show::line(format!("wrote {}", path.display()));
    }
    show::line(format!("\nnext: cdflow validate {0}, then cdflow apply {0}", options.directory.display()));
    Ok(())
}

pub(crate) fn validate(options: &ValidateOptions, json: bool) -> Result<()> {
    let files = read(&options.path)?;
    let documents = check(&files, json)?;
    if json {
        return show::json(&serde_json::json!({ "valid": true, "documents": documents }));
    }
    let (documents, files) = (show::counted(documents, "document"), show::counted(files.len(), "file"));
    show::line(format!("{} no errors in {documents} of {files}", style("✓").green()));
    Ok(())
}

pub(crate) async fn apply(client: &Client, options: &ApplyOptions, json: bool) -> Result<()> {
    let files = read(&options.path)?;
    // With others kept, these may name what only the server knows: it checks them all together.
    let documents = if options.keep_others {
        format!("the documents of {}", show::counted(files.len(), "file"))
    } else {
        show::counted(check(&files, json)?, "document")
    };
    let stored: Stored = client.get("/configuration", &()).await?;
    let request = ReplaceConfiguration {
        expected_revision: stored.revision,
        documents: files.into_iter().map(|file| Document { file: file.path, text: file.text }).collect(),
        keep_others: options.keep_others,
        dry_run: options.dry_run,
    };
    let answer: ConfigurationReplaced = client.put("/configuration", &request).await?;
    if json {
        return show::json(&answer);
    }
    let what = match (options.dry_run, answer.changed) {
        (true, _) => format!("{documents} would be accepted"),
        (false, true) => format!("applied {documents} as revision {}", answer.revision),
        (false, false) => format!("{documents} are unchanged since revision {}", answer.revision),
    };
    show::line(format!("{} {what}", style("✓").green()));
    if !answer.removed.is_empty() {
        let would = if options.dry_run { "would be removed" } else { "removed" };
        show::line(format!("  {} {would}: {}", answer.removed.len(), answer.removed.join(", ")));
        show::aside("  They were applied before and are not among these documents; `--keep-others` leaves such alone.");
    }
    Ok(())
}

/// Number of documents, when all are valid.
fn check(files: &[SourceFile], json: bool) -> Result<usize> {
    match Configuration::parse(files.to_vec()) {
        Ok(configuration) => Ok(configuration.bundle().documents.len()),
        Err(diagnostics) => {
            let records = diagnostics.records();
            if json {
                show::json(&serde_json::json!({ "valid": false, "diagnostics": records }))?;
            } else {
                show::aside(diagnostics.render(console::colors_enabled_stderr()));
            }
            Err(Failure::Invalid(format!("{} found", show::counted(records.len(), "error"))).into())
        }
    }
}

/// All `.yaml` and `.yml` files below a directory in the order of their names, or one file.
fn read(path: &Path) -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    if path.is_dir() {
        collect(path, path, &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
    } else {
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        files.push(SourceFile { path: name, text: text(path)? });
    }
    if files.is_empty() {
        bail!("{} has no .yaml files: `cdflow init {}` writes a first set", path.display(), path.display());
    }
    Ok(files)
}

fn collect(root: &Path, directory: &Path, files: &mut Vec<SourceFile>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_dir() && !hidden {
            collect(root, &path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            files.push(SourceFile { path: name, text: text(&path)? });
        }
    }
    Ok(())
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}
