//! Laws that hold for every plan and every order of events.

use cdflow_engine::Run;
use cdflow_journal::Aggregate;
use cdflow_pipeline::plan::{Action, Plan, Stage, Step};
use cdflow_protocol::v1::ErrorClass;
use proptest::prelude::*;

use crate::{
    plans::{With, approve, canary, nothing, once, plan, script, stage, step},
    world::{Chance, Message, Reply, World, acquire_of, cancel, roll_back},
};

/// A small generator of its own, so that a whole world follows from one printed number.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

impl Chance for Dice {
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

const CONDITIONS: [&str; 5] =
    ["always()", "failure()", "success()", "rolled_back() || failure()", "inputs.mode == 'full'"];

fn random_step(dice: &mut Dice, id: String) -> Step {
    let mut step = match dice.below(6) {
        0 => approve(&id),
        1 => step(&id, Action::Wait { duration_ms: 5_000 }),
        2 => once(&id),
        3 => nothing(&id),
        _ => script(&id, "./test ${{ inputs.mode }}"),
    };
    step.timeout_ms = 60_000;
    if dice.percent(30) {
        step = step.when(dice.one(&CONDITIONS));
    }
    if dice.percent(40) {
        step = step.tried(3, 1_000);
    }
    step
}

fn random_stage(dice: &mut Dice, index: usize) -> Stage {
    let id = format!("s{index}");
    let earlier: Vec<_> = (0..index).filter(|_| dice.percent(40)).map(|need| format!("s{need}")).collect();
    let needs: Vec<_> = earlier.iter().map(String::as_str).collect();
    let mut made = if dice.percent(50) {
        let mut made = canary(&id, &needs, &format!("infra-{index}"));
        for step in made.steps.iter_mut().chain(&mut made.rollback) {
            if dice.percent(30) && matches!(step.action, Action::Verb { .. }) {
                *step = step.clone().tried(2, 500);
            }
        }
        for extra in 0..dice.below(3) {
            let at = dice.below(made.steps.len() + 1);
            made.steps.insert(at, random_step(dice, format!("x{extra}")));
        }
        made
    } else {
        let steps = (0..dice.below(4)).map(|n| random_step(dice, format!("x{n}"))).collect();
        stage(&id, &needs, steps)
    };
    if dice.percent(20) {
        made.condition = Some(dice.one(&CONDITIONS).into());
    }
    if dice.percent(20) {
        made.timeout_ms = 90_000;
    }
    made
}

fn random_reply(dice: &mut Dice) -> Reply {
    match dice.below(8) {
        0 => Reply::Fail(ErrorClass::Script),
        1 => Reply::Fail(ErrorClass::Transient),
        2 => Reply::Lost { done: true },
        3 => Reply::Lost { done: false },
        4 => Reply::Silent,
        5 => Reply::Deaf,
        6 => Reply::Expired,
        _ => Reply::Twice(Box::new(Reply::Ok)),
    }
}

fn random_world(seed: u64, stages: usize, trouble: usize) -> (Plan, World) {
    let mut dice = Dice(seed | 1);
    let plan = plan((0..stages).map(|index| random_stage(&mut dice, index)).collect());
    let mut world = World::new(&plan);
    for stage in &plan.stages {
        if let Some(deploy) = &stage.deploy {
            let infrastructure = &deploy.target.infrastructure;
            if dice.percent(70) {
                world = world.live(infrastructure, "v1");
            }
            if dice.percent(trouble) {
                let lock = format!("storefront@{infrastructure}");
                let at = dice.one(&stage.steps).id;
                world = world.when(&format!("{}/{at}", stage.id), Message::ToLock(lock, acquire_of("rival")));
            }
        }
        for step in stage.steps.iter().chain(&stage.rollback) {
            let name = format!("{}/{}", stage.id, step.id);
            if dice.percent(trouble) {
                let replies: Vec<_> =
                    (0..3).map(|_| if dice.percent(50) { Reply::Ok } else { random_reply(&mut dice) }).collect();
                world = world.reply(&name, &replies);
            }
            if dice.percent(trouble / 8) {
                let message = if dice.percent(50) { cancel() } else { roll_back(&stage.id) };
                world = world.when(&name, message);
            }
        }
    }
    world.chance = Box::new(dice);
    (plan, world)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// Every run ends; nothing happens after that; what was changed is promoted, put back, or a person is told; no
    /// stage runs before its needs; no step twice in one attempt; no verb without the lock; no lock is left over; and
    /// the stored events give the same state as deciding did.
    #[test]
    fn every_run_ends_and_leaves_its_targets_in_order(seed: u64, stages in 1..6_usize, trouble in 0..60_usize) {
        let (_, world) = random_world(seed, stages, trouble);
        world.finish();
    }

    /// A state that went through a checkpoint at any moment goes on as if nothing had happened.
    #[test]
    fn a_checkpoint_is_the_state(seed: u64, stages in 1..5_usize, trouble in 0..60_usize) {
        let (_, mut world) = random_world(seed, stages, trouble);
        for _ in 0..20_000 {
            let more = world.turn();
            let restored = Run::restore(&world.run.checkpoint()).unwrap();
            prop_assert_eq!(&restored, &world.run);
            prop_assert_eq!(restored.deadline(), world.run.deadline());
            prop_assert_eq!(restored.outstanding_tasks(), world.run.outstanding_tasks());
            world.run = restored;
            if !more {
                world.assert_sound();
                return Ok(());
            }
        }
        prop_assert!(false, "does not end");
    }

    #[test]
    fn bytes_that_are_no_state_are_an_error_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Run::restore(&bytes);
        let _ = cdflow_engine::Lock::restore(&bytes);
    }
}
