//! Laws: any order of any signals, however often, can be folded again to the same bits.

use cdflow_journal::{Aggregate as _, Input};
use cdflow_protocol::v1::{BeginPhase, VerificationSignal, verification_event, verification_signal};
use cdflow_verifier::Verification;
use proptest::prelude::*;

mod stage;
use stage::Stage;

#[derive(Debug, Clone)]
enum Happening {
    Begin {
        step: usize,
        watch: bool,
    },
    Second {
        new: (u64, u64),
        old: (u64, u64),
    },
    /// An earlier signal arrives again.
    Again(prop::sample::Index),
    Restart(prop::sample::Index),
    Fails(prop::sample::Index, bool),
    TaskLost(prop::sample::Index),
    Tick,
    LongTime,
    End,
    Checkpoint,
}

fn happening() -> impl Strategy<Value = Happening> {
    let served = || (0_u64..300).prop_flat_map(|requests| (Just(requests), 0..=requests / 8));
    prop_oneof![
        3 => (0_usize..4, any::<bool>()).prop_map(|(step, watch)| Happening::Begin { step, watch }),
        20 => (served(), served()).prop_map(|(new, old)| Happening::Second { new, old }),
        6 => any::<prop::sample::Index>().prop_map(Happening::Again),
        1 => any::<prop::sample::Index>().prop_map(Happening::Restart),
        1 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(which, fails)| Happening::Fails(which, fails)),
        1 => any::<prop::sample::Index>().prop_map(Happening::TaskLost),
        1 => Just(Happening::Tick),
        1 => Just(Happening::LongTime),
        1 => prop::bool::weighted(0.1).prop_map(|end| if end { Happening::End } else { Happening::Tick }),
        2 => Just(Happening::Checkpoint),
    ]
}

fn happen(stage: &mut Stage, happening: Happening, sent: &mut Vec<verification_signal::Kind>) {
    match happening {
        Happening::Begin { step, watch } => {
            let phase = stage.phase(&format!("verify-{step}"), 5 + 20 * step as u32, 120_000);
            let begin = verification_signal::Kind::Begin(BeginPhase { watch, ..phase });
            sent.push(begin.clone());
            stage.signal(begin);
        }
        Happening::Second { new, old } => {
            stage.now += 1_000;
            for process in &mut stage.processes {
                let (requests, errors) = if process.canary { new } else { old };
                process.serve(requests, errors);
            }
            let readings = verification_signal::Kind::Readings(stage.readings());
            sent.push(readings.clone());
            stage.signal(readings);
        }
        Happening::Again(which) => {
            if !sent.is_empty() {
                stage.signal(which.get(sent).clone());
            }
        }
        Happening::Restart(which) => {
            let index = which.index(stage.processes.len());
            stage.processes[index].restart();
        }
        Happening::Fails(which, fails) => {
            let index = which.index(stage.processes.len());
            stage.processes[index].failure = if fails { "timeout".into() } else { String::new() };
        }
        Happening::TaskLost(which) => {
            if !stage.collectors.is_empty() {
                let lost = which.get(&stage.collectors).id.clone();
                stage.input(Input::TaskLost(lost));
            }
        }
        Happening::Tick => stage.tick(),
        Happening::LongTime => {
            stage.now += 130_000;
            stage.tick();
        }
        Happening::End => stage.end(),
        Happening::Checkpoint => {
            let restored = Verification::restore(&stage.verification.checkpoint()).expect("own checkpoint");
            assert_eq!(restored, stage.verification);
            stage.verification = restored;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn folding_the_events_gives_the_live_state(happenings in prop::collection::vec(happening(), 1..150)) {
        let mut stage = Stage::with_control();
        let mut sent = Vec::new();
        for happening in happenings {
            happen(&mut stage, happening, &mut sent);
        }
        let mut folded = Verification::default();
        for event in &stage.events {
            folded.apply(event);
        }
        prop_assert_eq!(&folded, &stage.verification);
        prop_assert_eq!(folded.checkpoint(), stage.verification.checkpoint());
        prop_assert_eq!(folded.deadline(), stage.verification.deadline());

        // The verdict that was given is the one that a replayed state would give.
        let mut replayed = Verification::default();
        let mut verdicts = 0;
        for (index, event) in stage.events.iter().enumerate() {
            if let Some(verification_event::Kind::Readings(taken)) = &event.kind {
                let signal = VerificationSignal { kind: taken.readings.clone().map(verification_signal::Kind::Readings) };
                let decision = replayed.decide(stage::ID, Input::Signal(signal), taken.time_ms).expect("not refused");
                prop_assert_eq!(decision.events.first(), Some(event));
                if let Some(verdict) = decision.events.get(1) {
                    prop_assert_eq!(Some(verdict), stage.events.get(index + 1));
                    verdicts += 1;
                }
            }
            replayed.apply(event);
        }
        prop_assert!(verdicts <= stage.answers.len());
    }

    #[test]
    fn every_attempt_has_one_verdict_however_often_it_is_asked(happenings in prop::collection::vec(happening(), 1..150)) {
        let mut stage = Stage::with_control();
        let mut sent = Vec::new();
        for happening in happenings {
            happen(&mut stage, happening, &mut sent);
        }
        for answer in &stage.answers {
            let same = stage.answers.iter().filter(|other| (&other.step_id, other.attempt) == (&answer.step_id, answer.attempt));
            prop_assert!(same.into_iter().all(|other| other == answer));
        }
        let collectors = stage.verification.outstanding_tasks();
        prop_assert!(collectors.len() <= 1);
        prop_assert_eq!(stage.verification.deadline().is_some(), !collectors.is_empty());
    }

    #[test]
    fn doubled_and_late_readings_change_nothing(
        seconds in prop::collection::vec(((0_u64..200, 0_u64..4), (0_u64..200, 0_u64..4)), 5..60), delays in prop::collection::vec(0_usize..4, 60),
    ) {
        let mut once = Stage::with_control();
        once.begin(once.phase("verify-5", 5, 600_000));
        let mut sent = Vec::new();
        let mut noisy = Stage::with_control();
        noisy.begin(noisy.phase("verify-5", 5, 600_000));
        for (index, (new, old)) in seconds.into_iter().enumerate() {
            let new = (new.0 + new.1, new.1);
            let old = (old.0 + old.1, old.1);
            once.now += 1_000;
            for process in &mut once.processes {
                let (requests, errors) = if process.canary { new } else { old };
                process.serve(requests, errors);
            }
            let readings = verification_signal::Kind::Readings(once.readings());
            sent.push(readings.clone());
            once.signal(readings.clone());
            noisy.now = once.now;
            noisy.signal(readings.clone());
            noisy.signal(readings);
            if let Some(late) = sent.len().checked_sub(1 + delays[index]) {
                noisy.signal(sent[late].clone());
            }
        }
        prop_assert_eq!(&noisy.verification, &once.verification);
        prop_assert_eq!(noisy.events, once.events);
    }
}
