//! Strategies, as orders of verbs.

use cdflow_protocol::v1::{Verb, VerbTask};

use crate::{
    customers::Customers,
    site::{Site, live, summary},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_release_gets_all_traffic_whatever_the_percent() {
    let site = Site::new(2, 1).await;
    let v1 = site.release("v1", "");
    assert_eq!(live(&site.observe().await), None);
    let staged = site.verb(Verb::Stage, 50, &v1, None).await;
    assert_eq!(summary(&staged)["v1"], (1, 0.0));
    assert_eq!(staged.preview_url, staged.instances[0].url);
    assert_eq!(live(&staged), None);
    let shifted = site.verb(Verb::Shift, 5, &v1, None).await;
    assert_eq!(summary(&shifted)["v1"], (1, 100.0));
    let customers = Customers::arrive(&site.url());
    let promoted = site.verb(Verb::Promote, 0, &v1, None).await;
    assert_eq!(summary(&promoted)["v1"], (2, 100.0));
    assert_eq!(promoted.live.as_ref(), Some(&v1));
    assert_eq!(promoted.url, site.url());
    let current = std::fs::read_link(site.root().join("host-a/storefront/current")).unwrap();
    assert_eq!(current.display().to_string(), "releases/v1");
    customers.leave_content().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_gets_exact_shares_and_nobody_notices_the_switch() {
    let site = Site::new(4, 1).await;
    let (v1, v2) = (site.release("v1", ""), site.release("v2", ""));
    let before = site.install(&v1).await;
    let old: Vec<_> = site.processes();
    let customers = Customers::arrive(&site.url());
    site.verb(Verb::Stage, 25, &v2, Some(&v1)).await;
    for percent in [5, 25, 50] {
        let shifted = site.verb(Verb::Shift, percent, &v2, Some(&v1)).await;
        assert_eq!(summary(&shifted)["v2"], (1, f64::from(percent)));
        assert_eq!(summary(&shifted)["v1"], (4, f64::from(100 - percent)));
        assert_eq!(shifted.live, before.live);
        let seen = customers.share("v2", 600).await;
        assert!((seen - f64::from(percent)).abs() < 4.0, "{seen} % instead of {percent} %");
    }
    assert!(old.iter().all(|process| process.is_alive()), "the old version is untouched");
    let promoted = site.verb(Verb::Promote, 0, &v2, Some(&v1)).await;
    assert_eq!(summary(&promoted)["v2"], (4, 100.0));
    assert_eq!(live(&promoted), Some("v2"));
    let retired = site.verb(Verb::Retire, 0, &v2, Some(&v1)).await;
    assert_eq!(summary(&retired).keys().copied().collect::<Vec<_>>(), ["v2"]);
    assert_eq!(site.processes().len(), 4);
    assert_eq!(customers.share("v2", 50).await, 100.0);
    customers.leave_content().await;
    let servers = site.haproxy.as_ref().unwrap().command("show servers state storefront").unwrap();
    assert_eq!(servers.matches("cdflow-").count(), 4, "{servers}");
    assert!(site.has_said("started storefront v2 on host-a, port "), "{:?}", site.log.lock().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blue_green_switches_everything_at_once() {
    let site = Site::new(2, 2).await;
    let (v1, v2) = (site.release("v1", ""), site.release("v2", ""));
    site.install(&v1).await;
    let customers = Customers::arrive(&site.url());
    let staged = site.verb(Verb::Stage, 100, &v2, Some(&v1)).await;
    assert_eq!(summary(&staged)["v2"], (4, 0.0));
    assert_eq!(live(&staged), Some("v1"));
    let preview = reqwest::get(&staged.preview_url).await.unwrap().text().await.unwrap();
    assert_eq!(preview, "v2");
    let shifted = site.verb(Verb::Shift, 100, &v2, Some(&v1)).await;
    assert_eq!((summary(&shifted)["v1"], summary(&shifted)["v2"]), ((4, 0.0), (4, 100.0)));
    site.verb(Verb::Promote, 0, &v2, Some(&v1)).await;
    let retired = site.verb(Verb::Retire, 0, &v2, Some(&v1)).await;
    assert_eq!(summary(&retired).into_iter().collect::<Vec<_>>(), [("v2", (4, 100.0))]);
    customers.leave_content().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_moves_capacity_and_traffic_step_by_step() {
    let site = Site::new(3, 1).await;
    let (v1, v2) = (site.release("v1", ""), site.release("v2", ""));
    site.install(&v1).await;
    let customers = Customers::arrive(&site.url());
    for (percent, copies) in [(33, 1), (66, 2), (100, 3)] {
        let staged = site.verb(Verb::Stage, percent, &v2, Some(&v1)).await;
        assert_eq!(summary(&staged)["v2"].0, copies);
        site.verb(Verb::Shift, percent, &v2, Some(&v1)).await;
    }
    site.verb(Verb::Promote, 0, &v2, Some(&v1)).await;
    site.verb(Verb::Retire, 0, &v2, Some(&v1)).await;
    assert_eq!(site.processes().len(), 3);
    customers.leave_content().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_every_point_there_is_a_way_back_and_the_old_version_is_untouched() {
    let site = Site::new(2, 1).await;
    let v1 = site.release("v1", "");
    let before = site.install(&v1).await;
    let old = site.processes();
    let customers = Customers::arrive(&site.url());
    let way = [(Verb::Stage, 50), (Verb::Shift, 5), (Verb::Shift, 50), (Verb::Promote, 0)];
    for point in 1..=way.len() {
        let v2 = site.release(&format!("v2-{point}"), "");
        for (verb, percent) in &way[..point] {
            site.verb(*verb, *percent, &v2, Some(&v1)).await;
        }
        let after = site.roll_back(before.live.as_ref(), &v2).await;
        assert_eq!(after, before, "after {point} verbs");
        assert_eq!(site.processes(), old, "after {point} verbs");
    }
    customers.leave_content().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_retirement_the_old_version_is_started_again_from_its_directory() {
    let site = Site::new(2, 1).await;
    let (v1, v2) = (site.release("v1", ""), site.release("v2", ""));
    let before = site.install(&v1).await;
    site.install(&v2).await;
    // The artifact is gone from CI, and from the cache.
    std::fs::remove_file(v1.artifact.strip_prefix("file:").unwrap()).unwrap();
    std::fs::remove_dir_all(site.directory.path().join("cache")).unwrap();
    let customers = Customers::arrive(&site.url());
    let after = site.roll_back(before.live.as_ref(), &v2).await;
    assert_eq!(summary(&after).into_iter().collect::<Vec<_>>(), [("v1", (2, 100.0))]);
    assert_eq!(after.live, before.live);
    customers.leave_content().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_release_is_rolled_back_to_nothing() {
    let site = Site::new(2, 1).await;
    let v1 = site.release("v1", "");
    let before = site.observe().await;
    site.verb(Verb::Stage, 100, &v1, None).await;
    site.verb(Verb::Shift, 100, &v1, None).await;
    site.verb(Verb::Promote, 0, &v1, None).await;
    let after = site.roll_back(None, &v1).await;
    assert_eq!(after, before);
    assert!(site.processes().is_empty());
    assert!(!site.root().join("host-a/storefront/current").exists());
    let servers = site.haproxy.as_ref().unwrap().command("show servers state storefront").unwrap();
    assert!(!servers.contains("cdflow-"), "{servers}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_release_again_restarts_nothing_and_other_variables_are_another_release() {
    let site = Site::new(2, 1).await;
    let v1 = site.release("v1", "");
    let before = site.install(&v1).await;
    let old = site.processes();
    for (verb, percent) in [(Verb::Stage, 50), (Verb::Shift, 5), (Verb::Promote, 0), (Verb::Retire, 0)] {
        site.verb(verb, percent, &v1, Some(&v1)).await;
    }
    assert_eq!(site.observe().await, before);
    assert_eq!(site.processes(), old);

    let mut changed = v1.clone();
    changed.environment.insert("LOG_LEVEL".into(), "debug".into());
    let after = site.install(&changed).await;
    assert_eq!(after.live, Some(changed));
    assert!(old.iter().all(|process| !process.is_alive()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_else_changed_meanwhile_is_put_right() {
    let mut site = Site::new(2, 1).await;
    let (v1, v2) = (site.release("v1", ""), site.release("v2", ""));
    site.install(&v1).await;
    site.verb(Verb::Stage, 100, &v2, Some(&v1)).await;
    // Somebody plays with weights, kills a process, and at last restarts the router.
    let servers = site.haproxy.as_ref().unwrap().command("show servers state storefront").unwrap();
    let name = servers.split_whitespace().find(|word| word.starts_with("cdflow-host-a-v2")).unwrap().to_owned();
    site.haproxy.as_ref().unwrap().command(&format!("set weight storefront/{name} 200")).unwrap();
    let shifted = site.verb(Verb::Shift, 10, &v2, Some(&v1)).await;
    assert_eq!(summary(&shifted)["v2"], (2, 10.0));

    let victims: Vec<_> = site.processes();
    cdflow_executor::process::kill_all(&victims[3..]);
    let promoted = site.verb(Verb::Promote, 0, &v2, Some(&v1)).await;
    assert_eq!(summary(&promoted)["v2"], (2, 100.0));

    site.haproxy.as_mut().unwrap().restart().await.unwrap();
    let observed = site.observe().await;
    assert_eq!((live(&observed), observed.instances[0].weight), (Some("v2"), 0.0));
    let retired = site.verb(Verb::Retire, 0, &v2, Some(&v1)).await;
    assert_eq!(summary(&retired).into_iter().collect::<Vec<_>>(), [("v2", (2, 100.0))]);
    let customers = Customers::arrive(&site.url());
    assert_eq!(customers.share("v2", 20).await, 100.0);
    customers.leave_content().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_router_shares_are_by_instances() {
    let site = Site::with(2, 1, None);
    let (v1, v2) = (site.release("v1", ""), site.release("v2", ""));
    let before = site.install(&v1).await;
    assert!(before.instances.iter().any(|instance| instance.url == before.url));
    site.verb(Verb::Stage, 50, &v2, Some(&v1)).await;
    let shifted = site.verb(Verb::Shift, 5, &v2, Some(&v1)).await;
    assert_eq!((summary(&shifted)["v1"].0, summary(&shifted)["v2"].0), (2, 1));
    assert_eq!((live(&shifted), shifted.preview_url.is_empty()), (Some("v1"), false));
    let after = site.roll_back(before.live.as_ref(), &v2).await;
    assert_eq!(after, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_so_many_releases_stay_on_a_host() {
    let site = Site::with(1, 1, None);
    for number in 1..=5 {
        site.install(&site.release(&format!("v{number}"), "")).await;
    }
    let mut kept: Vec<String> = std::fs::read_dir(site.root().join("host-a/storefront/releases"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    kept.sort();
    assert_eq!(kept, ["v3", "v4", "v5"]);
    let logs = std::fs::read_dir(site.root().join("host-a/storefront/logs")).unwrap().count();
    assert_eq!(logs, 4, "the output of each stopped instance is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retiring_never_leaves_users_without_an_answer() {
    let site = Site::new(1, 1).await;
    let (v1, v2) = (site.release("v1", ""), site.release("v2", ""));
    site.install(&v1).await;
    assert!(site.perform(&site.task(Verb::Retire, 0, Some(&v2), Some(&v1))).await.is_err());
    let forced = site.task(Verb::Retire, 0, None, Some(&v1));
    assert!(site.perform(&VerbTask { rollback: false, ..forced }).await.is_err());
    assert_eq!(summary(&site.observe().await)["v1"], (1, 100.0));
}
