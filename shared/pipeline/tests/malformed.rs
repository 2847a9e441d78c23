//! Ten thousand documents that are wrong in some way: an answer to each, in bounded time, and never a panic.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use cdflow_pipeline::{ArtifactEvent, Configuration, Request, SourceFile, compile, init_example, matching};

const INSTALLATION: &str = include_str!("installation.yaml");
const CASES: u64 = 10_000;
const ALL_TOGETHER: Duration = Duration::from_secs(300);

/// SplitMix64: the same seed gives the same documents everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

/// Values that belong nowhere, or not where they land.
fn odd_value(random: &mut Random) -> String {
    match random.below(14) {
        0 => "9".repeat(1 + random.below(400)),
        1 => format!("-{}", "9".repeat(random.below(40))),
        2 => format!("1e{}", random.below(9_999)),
        3 => "[".repeat(1 + random.below(3_000)),
        4 => format!("{}1{}", "[".repeat(30), "]".repeat(30)),
        5 => "{a: ".repeat(1 + random.below(500)),
        6 => format!("${{{{ {} }}}}", "(".repeat(random.below(900))),
        7 => format!("\"${{{{ {}1 }}}}\"", "1+".repeat(random.below(900))),
        8 => format!("&a{0} [*a{0}, *a{0}]", random.below(3)),
        9 => "x".repeat(random.below(5_000)),
        10 => random
            .of(&["null", "~", "true", ".nan", "-.inf", "0x7fffffffffffffff", "0o777", "1_000", "2026-01-01", "''"])
            .to_owned(),
        11 => random.of(&["!!binary x", "!foo bar", "!!set {a}", "? [a]", "<<: *x", "%TAG", "|2\n x", ">-"]).to_owned(),
        12 => random.of(&["\u{0}", "\u{feff}", "\u{2028}", "é\u{301}", "\u{1F600}", "\u{7f}", "\t", "\r"]).to_owned(),
        _ => {
            random.of(&["5m", "5%", "v*", "[dev]", "{dev: 1}", "always()", "prod", "storefront", "-1", "0"]).to_owned()
        }
    }
}

fn mutated(random: &mut Random) -> String {
    let documents: Vec<&str> = INSTALLATION.split("---\n").collect();
    let valid = match random.below(6) {
        0 => init_example().into_iter().map(|file| format!("---\n{}", file.text)).collect(),
        1 => INSTALLATION.to_owned(),
        2 | 3 => documents[documents.len() - 2].to_owned(),
        _ => random.of(&documents).to_owned(),
    };
    let mut text = valid.into_bytes();
    for _ in 0..=random.below(4) {
        let at = random.below(text.len());
        let until = (at + random.below(40)).min(text.len());
        match random.below(9) {
            0 => drop(text.drain(at..until)),
            1 => {
                let other = random.below(text.len());
                if !text.is_empty() {
                    text.swap(at, other);
                }
            }
            2 => {
                let piece = text[at..until].to_vec();
                let to = random.below(text.len());
                text.splice(to..to, piece);
            }
            3 => drop(text.splice(at..at, odd_value(random).into_bytes())),
            // The value of a whole line.
            4..=6 => {
                let lines = String::from_utf8_lossy(&text).into_owned();
                let count = lines.lines().count();
                let chosen = random.below(count);
                let replaced: Vec<String> = lines
                    .lines()
                    .enumerate()
                    .map(|(index, line)| match line.split_once(": ") {
                        Some((key, _)) if index == chosen => format!("{key}: {}", odd_value(random)),
                        _ => line.to_owned(),
                    })
                    .collect();
                text = (replaced.join("\n") + "\n").into_bytes();
            }
            // A line again: duplicate keys, duplicate stages.
            7 => {
                let lines = String::from_utf8_lossy(&text).into_owned();
                let mut lines: Vec<&str> = lines.lines().collect();
                let line = lines[random.below(lines.len())];
                lines.insert(random.below(lines.len()), line);
                text = (lines.join("\n") + "\n").into_bytes();
            }
            _ => text.truncate(at),
        }
        if text.is_empty() {
            text.extend(b"kind: Service\n");
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Reads, and if that works, uses what was read. Whether it was accepted.
fn answered(text: String) -> bool {
    match Configuration::parse([SourceFile::new("fuzzed.yaml", text)]) {
        Err(errors) => {
            assert!(errors.count() > 0);
            for record in errors.records() {
                assert!(record.code.starts_with("CDF-1") && record.line > 0 && record.column > 0, "{record:?}");
                assert!(!record.message.is_empty());
                assert!(!record.help.is_empty() || record.code == "CDF-1005", "{record:?}");
            }
            assert!(!errors.render(false).is_empty());
            false
        }
        Ok(configuration) => {
            for pipeline in configuration.pipelines.keys() {
                let request = Request { pipeline: pipeline.clone(), version: Some("v1".into()), ..Request::default() };
                match compile(&configuration, &request) {
                    Ok(plan) => assert!(!plan.stages.is_empty()),
                    Err(errors) => assert!(!errors.to_string().is_empty()),
                }
            }
            let event = ArtifactEvent { name: "storefront".into(), version: "v1".into(), ..ArtifactEvent::default() };
            assert_eq!(matching(&configuration, &event).len(), configuration.pipelines.len());
            let stored = configuration.bundle();
            assert!(stored.parse().is_ok(), "what was accepted once is accepted again");
            true
        }
    }
}

/// Runs on the stack that threads of a runtime have, and fails if it takes too long.
fn bounded(work: impl FnOnce() + Send + 'static) {
    let (done, finished) = std::sync::mpsc::channel();
    let worker = std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(move || {
            work();
            done.send(()).ok();
        })
        .unwrap();
    if finished.recv_timeout(ALL_TOGETHER) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        panic!("still not done after {ALL_TOGETHER:?}");
    }
    worker.join().unwrap();
}

#[test]
fn ten_thousand_malformed_documents_are_answered() {
    let seed = std::env::var("CDFLOW_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0xcdf1);
    eprintln!("seed {seed}: CDFLOW_SEED={seed} repeats it");
    bounded(move || {
        let mut accepted = 0;
        for case in 0..CASES {
            let mut random = Random(seed ^ (case << 20));
            let text = mutated(&mut random);
            match std::panic::catch_unwind(|| answered(text.clone())) {
                Ok(was_accepted) => accepted += u64::from(was_accepted),
                Err(_) => panic!("seed {seed} case {case}:\n{text}"),
            }
        }
        eprintln!("{accepted} of {CASES} were accepted");
        assert!(accepted < CASES / 2, "most of them are wrong");
    });
}

#[test]
fn documents_made_to_exhaust_are_answered() {
    let mut bomb = String::from("kind: Service\nname: x\na0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = level - 1;
        bomb +=
            &format!("a{level}: &a{level} [*a{before}, *a{before}, *a{before}, *a{before}, *a{before}, *a{before}]\n");
    }
    let many_stages: String = (0..3_000).map(|n| format!("  - {{ id: s{n}, steps: [{{ run: x }}] }}\n")).collect();
    let in_a_ring: String =
        (0..400).map(|n| format!("  - {{ id: s{n}, needs: [s{}], steps: [{{ run: x }}] }}\n", (n + 1) % 400)).collect();
    let everyone: String = (0..400)
        .map(|n| {
            let needs: Vec<String> = (0..n).map(|m| format!("s{m}")).collect();
            format!("  - {{ id: s{n}, needs: [{}], steps: [{{ run: x }}] }}\n", needs.join(", "))
        })
        .collect();
    let documents = [
        bomb,
        "kind: Pipeline\nname: x\nstages:\n".to_owned() + &many_stages,
        "kind: Pipeline\nname: x\nstages:\n".to_owned() + &in_a_ring,
        "kind: Pipeline\nname: x\nstages:\n".to_owned() + &everyone,
        "kind: Person\nname: x\n---\n".repeat(5_000),
        "---\n".repeat(200_000),
        "[".repeat(900_000),
        "- ".repeat(400_000),
        "a: ".repeat(300_000),
        "{".repeat(500_000),
        "? ".repeat(400_000),
        "\"".to_owned() + &"\\u0041".repeat(100_000),
        "#".repeat(1_000_000),
        "x".repeat(3 << 20),
        "kind: Group\nname: x\nmembers: [".to_owned() + &"y, ".repeat(20_000) + "]",
        (0..100_000).map(|n| format!("f{n}: 1\n")).collect::<String>() + "kind: Person\nname: x\n",
        "a".to_owned() + &"\n".repeat(900_000) + "b: c",
        format!("kind: Pipeline\nname: {}\nstages: []\n", "n".repeat(100_000)),
        format!("kind: Person\nname: x\n{}", (0..9_000).map(|n| format!("f{n}: 1\n")).collect::<String>()),
    ];
    bounded(move || {
        for document in documents {
            answered(document);
        }
    });
}
