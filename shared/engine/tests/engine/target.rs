//! What a target looks like after verbs: enough to see whether it was changed, promoted or put back.

use std::collections::{BTreeMap, BTreeSet};

use cdflow_protocol::v1::{Instance, Observation, Release, Verb, VerbTask};

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Target {
    pub live: Option<Release>,
    pub present: BTreeSet<String>,
    pub weights: BTreeMap<String, u32>,
    /// Verbs that came with an older fence are refused.
    pub fence: u64,
}

impl Target {
    pub fn with(version: &str) -> Self {
        Self {
            live: Some(Release { version: version.into(), artifact: format!("file:/{version}"), ..Release::default() }),
            present: BTreeSet::from([version.into()]),
            weights: BTreeMap::from([(version.into(), 100)]),
            fence: 0,
        }
    }

    /// Does a verb; `false` if the fence is too old.
    pub fn take(&mut self, task: &VerbTask, fence: u64) -> bool {
        if fence < self.fence {
            return false;
        }
        self.fence = fence;
        let release = task.release.as_ref().map(|release| release.version.clone());
        let previous = task.previous.as_ref().map(|release| release.version.clone());
        match (task.verb(), release) {
            (Verb::Stage, Some(release)) => {
                self.present.insert(release);
            }
            (Verb::Shift, Some(release)) => {
                assert!(self.present.contains(&release), "traffic for what is not there: {release}");
                self.weights = BTreeMap::from([(release, task.percent)]);
                if let Some(previous) = previous.filter(|_| task.percent < 100) {
                    self.weights.insert(previous, 100 - task.percent);
                }
            }
            (Verb::Promote, Some(release)) => {
                self.weights = BTreeMap::from([(release.clone(), 100)]);
                self.present.insert(release);
                self.live = task.release.clone();
            }
            (Verb::Retire, Some(release)) => self.present.retain(|version| *version == release),
            (Verb::Shift, None) => self.weights.clear(),
            (Verb::Retire, None) => {
                assert!(task.rollback, "only a rollback may remove everything");
                self.live = None;
                self.present.clear();
                self.weights.clear();
            }
            (Verb::Observe, None) => {}
            (verb, release) => panic!("{verb:?} of {release:?} makes no sense"),
        }
        true
    }

    pub fn observe(&self) -> Observation {
        let instance = |version: &String| Instance {
            id: format!("{version}-1"),
            version: version.clone(),
            ready: true,
            weight: f64::from(self.weights.get(version).copied().unwrap_or(0)),
            ..Instance::default()
        };
        Observation {
            instances: self.present.iter().map(instance).collect(),
            live: self.live.clone(),
            url: "http://shop.example".into(),
            preview_url: "http://preview.example".into(),
        }
    }

    /// What serves users: the same before a change and after it was undone.
    pub fn serves(&self) -> (Option<String>, &BTreeSet<String>, &BTreeMap<String, u32>) {
        (self.live.as_ref().map(|live| live.version.clone()), &self.present, &self.weights)
    }
}
