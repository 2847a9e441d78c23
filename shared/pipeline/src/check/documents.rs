//! Checks of everything but pipelines.

use std::collections::BTreeSet;

use super::Checker;
use crate::configuration::Kind;
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{HealthProfile, Infrastructure, Reference};
use crate::source::At;

impl Checker<'_> {
    pub(super) fn documents(&mut self) {
        let configuration = self.configuration;
        for service in configuration.services.values() {
            if let Some(health) = &service.health {
                self.resolve(Kind::HealthProfile, health);
            }
            for (environment, _) in service.environments.iter() {
                self.resolve(Kind::Environment, environment);
            }
            for (infrastructure, _) in service.infrastructure.iter() {
                self.resolve(Kind::Infrastructure, infrastructure);
            }
            self.no_inputs(&service.variables);
            for (_, overrides) in service.environments.iter().chain(service.infrastructure.iter()) {
                self.no_inputs(&overrides.variables);
            }
        }
        for environment in configuration.environments.values() {
            self.each_once(Kind::Infrastructure, &environment.infrastructure);
            if environment.infrastructure.is_empty() {
                let error = Diagnostic::new(Code::MissingField, &environment.name.place, "nothing to deploy to here");
                self.report(error.help("name at least one infrastructure: `infrastructure: [prod-vms]`"));
            }
            if let Some(floor) = &environment.approval {
                self.quorum(&floor.by);
            }
            self.no_inputs(&environment.variables);
        }
        for group in configuration.groups.values() {
            self.each_once(Kind::Person, &group.members);
            if group.members.is_empty() {
                let error = Diagnostic::new(Code::MissingField, &group.name.place, "nobody is in this group");
                self.report(error.help("name at least one person: `members: [ana]`"));
            }
        }
        configuration.infrastructures.values().for_each(|it| self.infrastructure(it));
        configuration.health_profiles.values().for_each(|it| self.health_profile(it));
    }

    fn each_once(&mut self, kind: Kind, references: &[At<Reference>]) {
        let mut seen = BTreeSet::new();
        for reference in references {
            if !seen.insert(reference.as_str()) {
                let message = format!("`{}` is there twice", reference.as_str());
                self.report(Diagnostic::new(Code::Duplicate, &reference.place, message).help("remove one of the two"));
            } else {
                self.resolve(kind, reference);
            }
        }
    }

    fn infrastructure(&mut self, infrastructure: &Infrastructure) {
        self.no_inputs(&infrastructure.variables);
        let mut seen = BTreeSet::new();
        for host in &infrastructure.hosts {
            if !seen.insert(host.as_str()) {
                let message = format!("the host `{}` is there twice", host.as_str());
                self.report(Diagnostic::new(Code::Duplicate, &host.place, message).help("remove one of the two"));
            }
        }
        if infrastructure.hosts.is_empty() {
            let error = Diagnostic::new(Code::MissingField, &infrastructure.name.place, "there are no hosts here");
            self.report(error.help("name at least one: `hosts: [host-1]`"));
        }
    }

    fn health_profile(&mut self, profile: &HealthProfile) {
        for (name, budget) in [("alpha", &profile.alpha), ("beta", &profile.beta)] {
            if let Some(budget) = budget {
                self.budget(name, budget);
            }
        }
        if let (Some(requests), Some(errors)) = (&profile.requests, &profile.errors)
            && requests.value == errors.value
        {
            let error = Diagnostic::new(Code::Conflict, &errors.place, "every request would count as failed");
            self.report(error.help(r#"select failed ones only, for example `http_requests_total{code=~"5.."}`"#));
        }
        if let Some(rate) = profile.guards.as_ref().and_then(|guards| guards.max_error_rate.as_ref())
            && rate.percent() >= 100.0
        {
            let error = Diagnostic::new(Code::BadValue, &rate.place, "a guard of 100% never fails");
            self.report(error.help("expected less than 100%, for example `5%`"));
        }
    }

    pub(super) fn budget(&mut self, name: &str, budget: &At<crate::model::Percentage>) {
        if budget.percent() <= 0.0 || budget.percent() > 25.0 {
            let message = format!("`{name}` is the probability of a wrong decision");
            let error = Diagnostic::new(Code::BadValue, &budget.place, message);
            self.report(error.help("expected more than 0% and at most 25%, for example `1%`"));
        }
    }
}
