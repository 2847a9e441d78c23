//! Deploy stages: strategy, hooks, rollback.

use super::steps::hooks;
use super::{Said, Target, step};
use crate::configuration::Configuration;
use crate::model::{self, HealthProfile, Percentage, Strategy};
use crate::plan::{Action, Deploy, Profile, Retry, Stage, Step, Verb};

/// Looking and splitting traffic are a few calls to a host.
const QUICK_MS: i64 = 2 * 60_000;
/// Fetching, starting and stopping take longer.
const SLOW_MS: i64 = 10 * 60_000;
/// At each weight, unless the stage says.
const VERIFY_WITHIN_MS: i64 = 10 * 60_000;
/// Batch of a rolling deployment in percent, unless the stage says.
const BATCH: u32 = 25;
/// Every verb brings about a state, whatever was there: it can be tried again.
const TRANSIENT: Retry = Retry { attempts: 3, interval_ms: 2_000 };

/// A deploy stage to compile; without `stage`, with defaults only.
pub(super) struct DeployStage<'a> {
    pub(super) target: Target<'a>,
    pub(super) said: Option<Said<'a>>,
    pub(super) stage: Option<&'a model::Stage>,
}

impl DeployStage<'_> {
    /// Fills in what a stage that has nothing yet does.
    pub(super) fn compile(&self, configuration: &Configuration, plain: Stage) -> Stage {
        let stage = self.stage;
        let pool = self.target.pool();
        let hooks_of = |prefix: &str, steps: fn(&model::Stage) -> &[crate::source::At<model::Step>]| {
            stage.map(|stage| hooks(prefix, steps(stage), pool)).unwrap_or_default()
        };
        let mut steps = vec![lock("lock", false), verb("observe", Verb::Observe, 0)];
        steps.extend(hooks_of("before", |stage| &stage.before));
        steps.extend(self.strategy_steps());
        steps.push(verb("promote", Verb::Promote, 0));
        steps.extend(hooks_of("step", |stage| &stage.steps));
        match stage.and_then(|stage| stage.watch.as_ref()) {
            None => steps.extend([
                verb("retire", Verb::Retire, 0),
                step("promoted", Action::Promoted),
                step("unlock", Action::Unlock { watching: false }),
            ]),
            Some(duration) => steps.extend([
                step("promoted", Action::Promoted),
                step("unlock", Action::Unlock { watching: true }),
                step("watch", Action::Watch { duration_ms: duration.milliseconds() }),
                lock("relock", true),
                verb("retire", Verb::Retire, 0),
                step("unlock-2", Action::Unlock { watching: false }),
            ]),
        }

        let mut rollback = vec![
            lock("rollback-lock", true),
            verb("rollback-stage", Verb::Stage, 100),
            verb("rollback-shift", Verb::Shift, 100),
            verb("rollback-promote", Verb::Promote, 0),
            verb("rollback-retire", Verb::Retire, 0),
        ];
        rollback.extend(hooks_of("rollback-step", |stage| &stage.on_rollback));
        rollback.push(step("rollback-unlock", Action::Unlock { watching: false }));

        let deploy = Deploy {
            environment: self.target.environment.name.as_str().to_owned(),
            strategy: match self.strategy() {
                None | Some(Strategy::Rolling(_)) => "rolling",
                Some(Strategy::BlueGreen) => "blue-green",
                Some(Strategy::Canary(_)) => "canary",
            }
            .to_owned(),
            target: self.target.for_plan(self.said),
            profile: self.profile(configuration),
        };
        Stage { deploy: Some(deploy), steps, rollback, ..plain }
    }

    fn strategy(&self) -> Option<&Strategy> {
        self.stage.and_then(|stage| stage.strategy.as_ref()).map(|at| &at.value)
    }

    fn strategy_steps(&self) -> Vec<Step> {
        let stage_and_shift = |weight: u32| {
            [verb(format!("stage-{weight}"), Verb::Stage, weight), verb(format!("shift-{weight}"), Verb::Shift, weight)]
        };
        match self.strategy() {
            Some(Strategy::Canary(weights)) => weights
                .iter()
                .filter_map(|weight| weight.whole())
                .flat_map(|weight| stage_and_shift(weight).into_iter().chain(self.verify(weight)))
                .collect(),
            Some(Strategy::BlueGreen) => stage_and_shift(100).into_iter().chain(self.verify(100)).collect(),
            Some(Strategy::Rolling(model::Rolling { batch: Some(batch) })) => self.rolling(batch.whole()),
            Some(Strategy::Rolling(_)) | None => self.rolling(None),
        }
    }

    fn rolling(&self, batch: Option<u32>) -> Vec<Step> {
        let batch = batch.unwrap_or(BATCH).clamp(1, 100);
        let copies = self.target.copies();
        let shares: Vec<u32> = (1..=100_u32.div_ceil(batch)).map(|number| (number * batch).min(100)).collect();
        // On few copies several shares come to the same number of them: only the largest of these is a batch.
        let staged = |share: u32| (u64::from(share) * u64::from(copies)).div_ceil(100);
        shares
            .iter()
            .enumerate()
            .filter(|&(at, &share)| shares.get(at + 1).is_none_or(|&next| staged(next) > staged(share)))
            .map(|(_, &share)| share)
            .flat_map(|done| {
                [verb(format!("stage-{done}"), Verb::Stage, done), verb(format!("shift-{done}"), Verb::Shift, done)]
            })
            .chain(self.verify(100))
            .collect()
    }

    fn verify(&self, weight: u32) -> Option<Step> {
        let verify = self.stage?.verify.as_ref()?;
        let within_ms = verify.within.as_ref().map_or(VERIFY_WITHIN_MS, |within| within.milliseconds());
        Some(step(format!("verify-{weight}"), Action::Verify { weight, within_ms }))
    }

    fn profile(&self, configuration: &Configuration) -> Option<Profile> {
        let name = self.target.service.health.as_ref()?;
        let profile = configuration.health_profiles.get(name.as_str())?;
        let mut filled = filled_in(profile);
        if let Some(verify) = self.stage.and_then(|stage| stage.verify.as_ref()) {
            filled.alpha = verify.alpha.as_ref().map_or(filled.alpha, |alpha| alpha.share());
            filled.beta = verify.beta.as_ref().map_or(filled.beta, |beta| beta.share());
            filled.bake_ms = verify.bake.as_ref().map_or(filled.bake_ms, |bake| bake.milliseconds());
        }
        Some(filled)
    }
}

fn filled_in(profile: &HealthProfile) -> Profile {
    let scrape = profile.scrape.as_ref();
    let guards = profile.guards.as_ref();
    let share = |said: Option<&crate::source::At<Percentage>>, else_percent: f64| {
        said.map_or(else_percent / 100.0, |at| at.share())
    };
    Profile {
        name: profile.name.as_str().to_owned(),
        path: scrape.and_then(|scrape| scrape.path.as_ref()).map_or("/metrics", |path| path.as_str()).to_owned(),
        every_ms: scrape.and_then(|scrape| scrape.every.as_ref()).map_or(5_000, |every| every.milliseconds()),
        requests: profile.requests.as_ref().map_or("http_requests_total", |at| at.as_str()).to_owned(),
        errors: profile.errors.as_ref().map_or(r#"http_requests_total{code=~"5.."}"#, |at| at.as_str()).to_owned(),
        alpha: share(profile.alpha.as_ref(), 1.0),
        beta: share(profile.beta.as_ref(), 5.0),
        harmful_odds_ratio: profile.harm.as_ref().map_or(2.0, |harm| harm.get()),
        bake_ms: profile.bake.as_ref().map_or(5 * 60_000, |bake| bake.milliseconds()),
        min_ticks: profile.min_ticks.as_ref().map_or(20, |count| count.get()),
        min_requests: guards.and_then(|guards| guards.min_requests.as_ref()).map_or(100, |count| count.get().into()),
        max_error_rate: share(guards.and_then(|guards| guards.max_error_rate.as_ref()), 5.0),
    }
}

fn lock(id: &str, only_if_latest: bool) -> Step {
    step(id, Action::Lock { only_if_latest })
}

fn verb(id: impl Into<String>, verb: Verb, percent: u32) -> Step {
    let timeout_ms = match verb {
        Verb::Observe | Verb::Shift => QUICK_MS,
        Verb::Stage | Verb::Promote | Verb::Retire => SLOW_MS,
    };
    Step { timeout_ms, retry: Some(TRANSIENT), ..step(id, Action::Verb { verb, percent }) }
}
