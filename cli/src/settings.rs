//! Where the suite is, and who we are to it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::up::write_private;

/// Directory of everything that `cdflow up` keeps, unless said otherwise.
pub(crate) const STATE_DIRECTORY: &str = ".cdflow";
const FILE: &str = "client.json";

/// What the command line remembers between calls; readable by its owner only.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// Base URL of the console.
    pub(crate) server: String,
    /// Session token.
    pub(crate) token: String,
    /// Whose it is.
    pub(crate) person: String,
}

impl Settings {
    /// From `.cdflow` in this directory, else from the user's configuration directory.
    pub(crate) fn load() -> Option<Self> {
        [Some(Path::new(STATE_DIRECTORY).join(FILE)), user_file()]
            .into_iter()
            .flatten()
            .find_map(|path| serde_json::from_slice(&fs::read(path).ok()?).ok())
    }

    /// Next to the state of a suite in this directory, else in the user's configuration directory.
    pub(crate) fn save(&self) -> Result<PathBuf> {
        let local = Path::new(STATE_DIRECTORY);
        let path = if local.is_dir() {
            local.join(FILE)
        } else {
            user_file().context("neither $XDG_CONFIG_HOME nor $HOME is set: nowhere to keep the session")?
        };
        self.save_to(&path)?;
        Ok(path)
    }

    pub(crate) fn save_in(&self, state: &Path) -> Result<()> {
        self.save_to(&state.join(FILE))
    }

    fn save_to(&self, path: &Path) -> Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        }
        write_private(path, &serde_json::to_vec_pretty(self)?)
    }
}

fn user_file() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")))?;
    Some(base.join("cdflow").join(FILE))
}
