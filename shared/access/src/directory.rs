//! People and groups, as the configuration names them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// A person who is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Unique; what decisions and the audit trail are kept under.
    pub name: String,
    /// Where mail goes.
    pub email: Option<String>,
}

/// People who may decide something together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Unique.
    pub name: String,
    /// Names of people.
    pub members: Vec<String>,
}

/// Who is known, and who belongs where. Built from the configuration at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    people: BTreeMap<String, Person>,
    groups: BTreeMap<String, BTreeSet<String>>,
}

impl Directory {
    /// From plain data. A member who is not among `people` is nobody: such a name never gets a right.
    pub fn new(people: impl IntoIterator<Item = Person>, groups: impl IntoIterator<Item = Group>) -> Self {
        let people: BTreeMap<_, _> = people.into_iter().map(|person| (person.name.clone(), person)).collect();
        let groups = groups
            .into_iter()
            .map(|group| {
                let known = group.members.into_iter().filter(|member| people.contains_key(member)).collect();
                (group.name, known)
            })
            .collect();
        Self { people, groups }
    }

    /// A person by name.
    pub fn person(&self, name: &str) -> Option<&Person> {
        self.people.get(name)
    }

    /// Everybody, by name.
    pub fn people(&self) -> impl Iterator<Item = &Person> {
        self.people.values()
    }

    /// Names of the groups of a person, sorted; none for somebody who is not known.
    pub fn groups_of(&self, person: &str) -> Vec<String> {
        self.groups.iter().filter(|(_, members)| members.contains(person)).map(|(name, _)| name.clone()).collect()
    }

    /// Known members of a group, sorted; none for a group that is not known.
    pub fn members_of(&self, group: &str) -> impl Iterator<Item = &str> {
        self.groups.get(group).into_iter().flatten().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> Directory {
        let person = |name: &str| Person { name: name.into(), email: None };
        let group = |name: &str, members: &[&str]| Group {
            name: name.into(),
            members: members.iter().map(ToString::to_string).collect(),
        };
        Directory::new(
            [person("ana"), person("bo")],
            [group("sre", &["bo", "eve"]), group("release-managers", &["ana", "bo"])],
        )
    }

    #[test]
    fn a_person_is_in_every_group_that_names_them() {
        assert_eq!(directory().groups_of("bo"), ["release-managers", "sre"]);
        assert_eq!(directory().groups_of("ana"), ["release-managers"]);
    }

    #[test]
    fn a_member_who_is_no_known_person_has_no_rights() {
        assert!(directory().groups_of("eve").is_empty());
        assert_eq!(directory().members_of("sre").collect::<Vec<_>>(), ["bo"]);
        assert!(directory().person("eve").is_none());
    }
}
