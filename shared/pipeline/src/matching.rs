//! Which pipelines an artifact event starts.

use serde::{Deserialize, Serialize};

use crate::configuration::Configuration;
use crate::model::{Artifact, Pipeline};

/// A new version of an artifact, as a CI system announces it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ArtifactEvent {
    /// Name of the artifact: of a package or of an image without registry.
    pub name: String,
    /// Registry and path of an image, `registry.example.com/shop/storefront`; empty if there is none.
    #[serde(default)]
    pub repository: String,
    /// The tag.
    pub version: String,
    /// `sha256:<hex>`; empty if nobody said.
    #[serde(default)]
    pub digest: String,
    /// Where it can be fetched; empty if nobody said.
    #[serde(default)]
    pub location: String,
}

/// What an event means for a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Match {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Name of its service; empty if it has none.
    pub service: String,
    /// Why it is not started. `None`: it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignored_because: Option<String>,
}

impl Match {
    /// Whether the event starts the pipeline.
    pub fn starts(&self) -> bool {
        self.ignored_because.is_none()
    }
}

/// What an event means for each pipeline, by name.
pub fn matching(configuration: &Configuration, event: &ArtifactEvent) -> Vec<Match> {
    configuration
        .pipelines
        .values()
        .map(|pipeline| Match {
            pipeline: pipeline.name.as_str().to_owned(),
            service: pipeline.service.as_ref().map(|service| service.as_str().to_owned()).unwrap_or_default(),
            ignored_because: reason_to_ignore(configuration, pipeline, event),
        })
        .collect()
}

fn reason_to_ignore(configuration: &Configuration, pipeline: &Pipeline, event: &ArtifactEvent) -> Option<String> {
    let Some(trigger) = pipeline.on.as_ref().and_then(|on| on.artifact.as_ref()) else {
        return Some("it is not started by artifacts: it has no `on: { artifact: … }`".into());
    };
    let Some(service) = pipeline.service.as_ref().and_then(|name| configuration.services.get(name.as_str())) else {
        return Some("it has no service whose artifact this could be".into());
    };
    let is_its = match &service.artifact.value {
        Artifact::Image(image) if event.repository.is_empty() => {
            [image.as_str(), last_part(image.as_str())].contains(&event.name.as_str())
        }
        Artifact::Image(image) => image.as_str() == event.repository,
        Artifact::Archive(archive) => {
            event.name == service.name.as_str() || archive.of(&event.version) == event.location
        }
    };
    if !is_its {
        let (what, known) = match &service.artifact.value {
            Artifact::Image(image) => ("image", image.as_str()),
            Artifact::Archive(_) => ("artifact", service.name.as_str()),
        };
        let published = if event.repository.is_empty() { &event.name } else { &event.repository };
        return Some(format!("`{published}` is another artifact: the {what} of its service is `{known}`"));
    }
    let tag = trigger.tag.as_ref().map_or("*", |tag| tag.as_str());
    if event.version.is_empty() {
        return Some("the event does not say which version".into());
    }
    (!glob_matches(tag, &event.version)).then(|| format!("the tag `{}` does not match `{tag}`", event.version))
}

fn last_part(image: &str) -> &str {
    image.rsplit('/').next().unwrap_or(image)
}

/// `*` stands for any text, `?` for any character.
fn glob_matches(glob: &str, text: &str) -> bool {
    let mut pattern = String::from("^(?s:");
    for c in glob.chars() {
        match c {
            '*' => pattern.push_str(".*"),
            '?' => pattern.push('.'),
            other => pattern.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    pattern.push_str(")$");
    regex::Regex::new(&pattern).is_ok_and(|regex| regex.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::glob_matches;

    #[test]
    fn globs_match_whole_tags() {
        for (glob, text, expected) in [
            ("v*", "v1.2.0", true),
            ("v*", "1.2.0", false),
            ("v1.?", "v1.2", true),
            ("v1.?", "v1x2", false),
            ("v1.?", "v1.20", false),
            ("*-rc*", "v1-rc1", true),
            ("*", "", true),
            ("v[0-9]", "v[0-9]", true),
            ("v[0-9]", "v5", false),
        ] {
            assert_eq!(glob_matches(glob, text), expected, "{glob} {text}");
        }
    }
}
