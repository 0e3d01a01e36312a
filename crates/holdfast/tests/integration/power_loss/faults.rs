//! A disk that fails, fills up or lies, and then loses power.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::ledger::name;
use super::registry::key;
use super::{Running, Site};
use crate::support::{setting, until};

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_of_the_journal_acknowledges_nothing_and_the_hub_goes_on() {
    let mut site = Site::new(setting("HOLDFAST_POWER_SEED", 11));
    for _ in 0..3 {
        let mut running = site.start().await;
        running.begin_faulty_load();
        for failure in 1..=2 {
            running.acknowledges_more(&site).await;
            site.shim.fail_journal_sync(site.random.below(10) as i64);
            until("a sync to fail", PATIENCE, || site.shim.failed_syncs() == failure).await;
        }
        running.acknowledges_more(&site).await;
        assert!(running.life.reconnects.load(Ordering::SeqCst) > 0, "nobody was told of the failure");
        site.cut_power(running).await;
    }
    let running = site.start().await;
    site.cut_power(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_of_the_registry_acknowledges_no_change_and_the_hub_goes_on() {
    let mut site = Site::new(setting("HOLDFAST_POWER_SEED", 12));
    for _ in 0..3 {
        let mut running = site.start().await;
        running.begin_faulty_load();
        tokio::time::sleep(Duration::from_millis(200)).await;
        site.shim.fail_other_sync(site.random.below(10) as i64);
        until("a sync to fail", PATIENCE, || site.shim.failed_syncs() == 1).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        running.changes_the_registry().await;
        site.cut_power(running).await;
    }
    let running = site.start().await;
    site.cut_power(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_answered_clearly_and_all_goes_on_when_space_returns() {
    let mut site = Site::new(setting("HOLDFAST_POWER_SEED", 13));
    for _ in 0..2 {
        let mut running = site.start().await;
        running.begin_faulty_load();
        running.acknowledges_more(&site).await;
        site.shim.limit_space(100_000);
        until("the disk to be full", PATIENCE, || site.shim.failed_writes() > 0).await;
        tokio::time::sleep(Duration::from_millis(300)).await;

        let rest = running.rest.clone();
        let answers = tokio::task::spawn_blocking(move || {
            let key = key(&name(0));
            (0..20).map(|_| rest.telemetry(&name(0), &key, b"is there room?").unwrap()).collect::<Vec<_>>()
        });
        let answers = answers.await.unwrap();
        let answer = answers.iter().find(|answer| answer.status != 204).expect("a full disk takes nothing");
        println!("figure: with a full disk a device is told {}: {}", answer.status, answer.body);
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(running.is_alive(), "the hub ended");
        assert!(running.log().contains("No space left on device"), "the operator is not told");

        site.shim.limit_space(-1);
        let begun = Instant::now();
        running.acknowledges_more(&site).await;
        running.changes_the_registry().await;
        println!("figure: {} ms after space returned, all goes on", begun.elapsed().as_millis());
        site.cut_power(running).await;
    }
    let running = site.start().await;
    site.cut_power(running).await;
}

/// The judge itself is judged: on a disk that lies, messages are lost, and it must say so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_lies_about_its_syncs_is_noticed() {
    let mut site = Site::new(setting("HOLDFAST_POWER_SEED", 14));
    // What survives by chance would hide the lie.
    site.leftovers = false;
    let mut running = site.start().await;
    running.begin_faulty_load();
    running.acknowledges_more(&site).await;
    site.shim.lie();
    running.acknowledges_more(&site).await;
    running.life.over.store(true, Ordering::SeqCst);
    site.cut_power(running).await;
    let (running, problems) = site.start_and_judge().await;
    let lost = problems.iter().filter(|problem| problem.ends_with("was acknowledged and is lost")).count();
    let unread = problems.iter().filter(|problem| problem.ends_with("and is gone")).count();
    println!(
        "figure: on a disk that lies {lost} acknowledged messages are lost, and {unread} that were read: noticed"
    );
    assert!(lost > 0 && unread > 0, "{problems:?}");
    site.cut_power(running).await;
}

impl Running {
    fn begin_faulty_load(&mut self) {
        self.life.faulty.store(true, Ordering::SeqCst);
        self.begin_load();
    }

    async fn acknowledges_more(&self, site: &Site) {
        let before = site.ledger.acknowledged();
        until("acknowledgements", PATIENCE, || site.ledger.acknowledged() > before + 200).await;
    }

    /// Waits until a change of the registry is taken.
    async fn changes_the_registry(&self) {
        let rest = self.rest.clone();
        let changed = tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            let device = "spare";
            while begun.elapsed() < PATIENCE {
                let body = crate::support::device_body(device, "new", &key(device));
                let answer = rest.service("PUT", "/devices/spare", Some(&body)).unwrap();
                if answer.status == 200 {
                    return true;
                }
                // It replaces, so it must be there first.
                let _ = rest.create("/devices/spare", &body);
                std::thread::sleep(Duration::from_millis(50));
            }
            false
        });
        assert!(changed.await.unwrap(), "the registry takes no changes any more:\n{}", self.log());
    }

    fn is_alive(&mut self) -> bool {
        self.hub.is_alive()
    }

    fn log(&self) -> String {
        self.hub.log()
    }
}
