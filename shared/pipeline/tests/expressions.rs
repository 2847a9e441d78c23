//! Templates and conditions.
#![allow(clippy::unwrap_used)]

use cdflow_pipeline::expression::{
    ExpressionErrorKind, Status, check, check_condition, condition_members, holds, members, render, render_all,
    render_text,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn scope() -> Value {
    json!({
        "inputs": { "replicas": 3, "ratio": 0.5, "name": "web", "dry": false, "zones": ["a", "b"], "note": null },
        "artifact": { "version": "v1.2.0" },
        "stages": { "qa": { "outputs": { "url": "http://qa" } } },
    })
}

#[test]
fn a_template_that_is_one_expression_keeps_its_type() {
    let cases = [
        ("${{ inputs.replicas }}", json!(3)),
        ("${{ inputs.replicas * 2 + 1 }}", json!(7)),
        ("${{ inputs.ratio }}", json!(0.5)),
        ("${{ inputs.dry }}", json!(false)),
        ("${{inputs.zones}}", json!(["a", "b"])),
        ("${{ inputs.note }}", json!(null)),
        ("${{ {'b': 1, 'a': {'c': 2}} }}", json!({"a": {"c": 2}, "b": 1})),
        ("${{ inputs.zones.map(z, z + '1') }}", json!(["a1", "b1"])),
        ("no expression", json!("no expression")),
        ("", json!("")),
    ];
    for (template, expected) in cases {
        assert_eq!(render(template, &scope()).unwrap(), expected, "{template}");
    }
}

#[test]
fn anything_around_an_expression_makes_text_of_it() {
    let cases = [
        ("./deploy ${{ artifact.version }} x${{ inputs.replicas }}", "./deploy v1.2.0 x3"),
        ("${{ inputs.note }}!", "!"),
        ("${{ inputs.zones }} ", "[\"a\",\"b\"] "),
        ("a}}b ${{ '}}' }}", "a}}b }}"),
        ("$HOME ${HOME} {{ x }}", "$HOME ${HOME} {{ x }}"),
    ];
    for (template, expected) in cases {
        assert_eq!(render(template, &scope()).unwrap(), json!(expected), "{template}");
    }
    assert_eq!(render_text("${{ inputs.replicas }}", &scope()).unwrap(), "3");
    assert_eq!(render_all(&json!({"a": ["${{ inputs.replicas }}"]}), &scope()).unwrap(), json!({"a": [3]}));
}

#[test]
fn a_condition_without_a_status_function_means_and_success() {
    use Status::{Cancelled, Failure, RolledBack, Success};
    let cases = [
        ("", [true, false, false, false]),
        ("inputs.replicas == 3", [true, false, false, false]),
        ("inputs.replicas == 4", [false, false, false, false]),
        ("success()", [true, false, false, false]),
        ("failure()", [false, true, true, false]),
        ("always()", [true, true, true, true]),
        ("rolled-back()", [false, false, true, false]),
        ("rolled_back() || success()", [true, false, true, false]),
        ("!success()", [false, true, true, true]),
        ("${{ always() && inputs.name == 'rolled-back()' }}", [false, false, false, false]),
        ("  ${{ failure() }} ", [false, true, true, false]),
    ];
    for (condition, expected) in cases {
        let answers =
            [Success, Failure, RolledBack, Cancelled].map(|status| holds(condition, &scope(), status).unwrap());
        assert_eq!(answers, expected, "{condition}");
    }
}

#[test]
fn errors_say_what_where_and_what_was_expected() {
    let messages: Vec<String> = [
        "${{ inputs.replicas",
        "x ${{ }}",
        "x ${{ input.replicas }}",
        "${{ inputs.replicaz }}",
        "${{ inputs.replicas + 'a' }}",
        "${{ run.id }}",
        "${{ 1 +* 2 }}",
        "${{ inputs.name.startWith('a') }}",
        "${{ 1 / 0 }}",
        "${{ stages.qa.outputs.host }}",
        "${{ success() }}",
    ]
    .into_iter()
    .map(|template| format!("{template}\n    {}", render(template, &scope()).unwrap_err()))
    .collect();
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn a_check_finds_names_that_do_not_exist_without_any_values() {
    for good in [
        "plain",
        "${{ inputs.anything.at.all }}",
        "${{ has(event.data.ref) ? event.data.ref : 'none' }}",
        "${{ inputs.zones.exists(z, z == matrix.zone) }}",
        "${{ int(string(inputs.x)) + size(inputs.zones) }}",
        "${{ duration('5m') }}",
    ] {
        check(good).unwrap();
    }
    for (bad, name) in [("${{ evnt.x }}", "event"), ("${{ inputs.zones.filer(z, true) }}", "filter")] {
        let error = check(bad).unwrap_err();
        assert_eq!(error.kind, ExpressionErrorKind::UnknownName);
        assert!(error.help.unwrap().contains(name), "{bad}");
    }
    check_condition("rolled-back() && inputs.x").unwrap();
    assert!(check_condition("succes()").unwrap_err().help.unwrap().contains("`success`"));
    assert!(check("${{ success() }}").is_err());
    assert_eq!(check("abc ${{ evnt.x }}").unwrap_err().offset, 8);
    assert_eq!(
        members("${{ inputs.a + stages.qa.outputs.b }}").unwrap(),
        [("inputs".to_owned(), "a".to_owned()), ("stages".to_owned(), "qa".to_owned())]
    );
    assert_eq!(condition_members("inputs.a").unwrap(), [("inputs".to_owned(), "a".to_owned())]);
}

#[test]
fn a_condition_that_is_no_boolean_is_an_error() {
    let error = holds("inputs.name", &scope(), Status::Success).unwrap_err();
    assert_eq!(error.message, "this condition is text, not true or false");
}

#[test]
fn loops_are_at_most_two_deep() {
    check("${{ [1].map(a, [a].filter(b, b > 0)).all(c, c.exists(d, d > 0)) }}").unwrap();
    let error = check("${{ [1].map(a, [a].map(b, [b].map(c, c))) }}").unwrap_err();
    assert!(error.message.contains("loop"), "{error}");
}

/// Runs on the small stack that threads of a runtime have.
fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap().join().unwrap();
}

#[test]
fn deep_and_long_expressions_are_errors_not_overflows() {
    on_a_small_stack(|| {
        let nasty = [
            "(".repeat(1_999),
            "!".repeat(159) + "true",
            "-".repeat(159) + "1",
            "1".to_owned() + &"+1".repeat(159),
            "a".to_owned() + &".a".repeat(159),
            "inputs".to_owned() + &"[0]".repeat(80),
            "1&&".repeat(80) + "1",
            "1<".repeat(159) + "1",
            "true ? 1 : ".repeat(24) + "1",
            "(".repeat(24) + &"!".repeat(110) + "1" + &")".repeat(24),
            "[".repeat(24) + &"]".repeat(24),
            "!".repeat(1_999),
            "-".repeat(1_998) + "1",
            "1".to_owned() + &"+1".repeat(999),
            "a".to_owned() + &".a".repeat(999),
            "inputs".to_owned() + &"[0]".repeat(600),
            "true?".repeat(24) + "1",
            "a?b:".repeat(400) + "1",
            "{1:".repeat(24),
            "a.b(".repeat(24),
            "1&&".repeat(600) + "1",
            "1<".repeat(900) + "1",
            "[[1,2,3].map(a,[1,2,3].map(b,[1,2,3].map(c,a*b*c)))]".to_owned(),
            "9".repeat(1_900),
            "1e999999".to_owned(),
            "'\\x'".to_owned(),
            "\"\\uD800\"".to_owned(),
            "b'\\377'".to_owned(),
            "\u{0}\u{feff}é\u{1F600}".to_owned(),
        ];
        for source in nasty {
            let template = format!("${{{{ {source} }}}}");
            let _ = check(&template);
            let _ = render(&template, &scope());
            let _ = holds(&source, &scope(), Status::Success);
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rendering_a_value_gives_that_value(value in any_json()) {
        let scope = json!({ "inputs": { "it": value } });
        prop_assert_eq!(render("${{ inputs.it }}", &scope).unwrap(), scope["inputs"]["it"].clone());
    }

    #[test]
    fn text_without_expressions_stays_as_it_is(text in "[^$]{0,40}") {
        prop_assert_eq!(render(&text, &json!({})).unwrap(), Value::String(text));
    }

    #[test]
    fn no_text_at_all_panics(source in "[-a-z0-9 .,()\\[\\]{}?:+*/%!&|<>='\"\\\\\\n]{0,40}") {
        let template = format!("${{{{ {source} }}}}");
        let _ = check(&template);
        let _ = render(&template, &scope());
        let _ = holds(&source, &scope(), Status::Failure);
    }

    #[test]
    fn offsets_are_inside_the_template(before in "[a-zé ]{0,9}", source in "[a-z().+ é]{0,20}") {
        let template = format!("{before}${{{{{source}}}}}");
        if let Err(error) = check(&template) {
            prop_assert!(error.offset <= template.len());
            prop_assert!(template.is_char_boundary(error.offset), "{} in {:?}", error.offset, template);
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (i64::MAX as u64 + 1..).prop_map(Value::from),
        (-1e9..1e9_f64).prop_map(|n| json!(n + 0.5)),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,5}", inner, 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}
