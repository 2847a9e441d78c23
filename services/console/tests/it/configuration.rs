//! Reading and replacing the configuration.

use cdflow_console::api::{Configuration, ConfigurationReplaced, Document, ReplaceConfiguration};

use crate::support::{PROJECT, World, problem};

fn replace(expected_revision: u64, text: &str) -> ReplaceConfiguration {
    let documents = vec![Document { file: "project.yaml".into(), text: text.into() }];
    ReplaceConfiguration { expected_revision, documents, ..ReplaceConfiguration::default() }
}

#[tokio::test]
async fn documents_are_read_as_applied_and_replaced_as_a_whole() {
    let world = World::new().await;
    let console = world.console().await;
    let token = world.token("ana").await;
    let ana = console.client(&token);
    let before: Configuration = ana.read("/configuration").await;
    assert_eq!((before.revision, before.documents.len()), (1, 10));
    let pipeline = before.documents.last().unwrap();
    assert_eq!((pipeline.kind.as_str(), pipeline.name.as_str()), ("Pipeline", "shop"));

    let send = async |request: ReplaceConfiguration| -> ConfigurationReplaced {
        let answer = ana.put("/configuration").json(&request).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    };
    let same = send(replace(1, PROJECT)).await;
    assert_eq!(same, ConfigurationReplaced { revision: 1, ..ConfigurationReplaced::default() });
    let checked = send(ReplaceConfiguration { dry_run: true, ..replace(1, "kind: Person\nname: ana\n") }).await;
    assert_eq!((checked.revision, checked.changed), (1, true));
    assert_eq!(
        (checked.removed.len(), checked.removed.contains(&"Pipeline shop".to_owned())),
        (9, true),
        "{checked:?}"
    );
    let added = send(ReplaceConfiguration { keep_others: true, ..replace(1, "kind: Person\nname: cy\n") }).await;
    assert_eq!(added, ConfigurationReplaced { revision: 2, changed: true, removed: Vec::new() });
    let after: Configuration = ana.read("/configuration").await;
    assert_eq!((after.revision, after.documents.len()), (2, 11));
    console.stop().await;
}

#[tokio::test]
async fn a_document_may_name_what_is_stored_and_not_sent() {
    let world = World::new().await;
    let console = world.console().await;
    let token = world.token("ana").await;
    // One is new, and one takes the place of the stored one.
    let group = "kind: Group\nname: sre\nmembers: [bo]\n---\nkind: Group\nname: release-managers\nmembers: [bo]\n";
    let request = ReplaceConfiguration { keep_others: true, ..replace(1, group) };
    let answer = console.client(&token).put("/configuration").json(&request).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    let after: Configuration = console.client(&token).read("/configuration").await;
    let groups: Vec<_> = after.documents.iter().filter(|document| document.kind == "Group").collect();
    assert_eq!(groups.iter().map(|group| group.name.as_str()).collect::<Vec<_>>(), ["release-managers", "sre"]);
    assert!(groups[0].text.contains("members: [bo]"), "{groups:?}");
    console.stop().await;
}

#[tokio::test]
async fn errors_name_file_line_and_column_and_change_nothing() {
    let world = World::new().await;
    let console = world.console().await;
    let token = world.token("ana").await;
    let ana = console.client(&token);
    let wrong = "kind: Person\nname: ana\nemial: ana@example.com\n";
    let answer = ana.put("/configuration").json(&replace(1, wrong)).send().await.unwrap();
    let (status, found) = problem(answer).await;
    assert_eq!((status, found.code.as_str()), (422, "CDF-4106"));
    let first = &found.diagnostics[0];
    assert_eq!((first.file.as_str(), first.line, first.column), ("project.yaml", 3, 1));
    assert!(first.help.contains("email"), "{first:?}");
    let now: Configuration = ana.read("/configuration").await;
    assert_eq!(now.revision, 1);
    console.stop().await;
}

#[tokio::test]
async fn who_changes_an_old_revision_is_told_the_new_one() {
    let world = World::new().await;
    let console = world.console().await;
    let token = world.token("ana").await;
    let answer = console.client(&token).put("/configuration").json(&replace(0, PROJECT)).send().await.unwrap();
    let (status, found) = problem(answer).await;
    assert_eq!((status, found.code.as_str()), (409, "CDF-4107"));
    assert!(found.detail.contains("revision 1, not 0"), "{found:?}");
    let huge = format!("# {}\n{PROJECT}", "x".repeat(3 << 20));
    let answer = console.client(&token).put("/configuration").json(&replace(1, &huge)).send().await.unwrap();
    assert_eq!(problem(answer).await.0, 413);
    console.stop().await;
}
