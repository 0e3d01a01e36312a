//! The guard's part of the demo: what it finds is shown, and one finding is fixed before the viewer's eyes.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sim::SasKey;
use tokio::sync::watch;

use super::Shared;
use super::fleet::{Flaw, MEMBERS, key_of};
use crate::cli::target::{Request, Target, encoded};

const PATH: &str = "/holdfast/v1/posture";
/// How often the hub is asked.
const EVERY: Duration = Duration::from_secs(1);
/// How long after the finding the dry run is shown, and how long after that the fix is made.
const READING_TIME: Duration = Duration::from_secs(3);

/// Shows the posture; fixes the shared key, and brings the device that is cut off its new one.
pub(super) async fn watch_over(
    target: Arc<Target>,
    keys: Vec<watch::Sender<SasKey>>,
    board: Shared,
    mut stop: watch::Receiver<bool>,
) {
    let mut since = None;
    loop {
        if let Some(report) = ask(&target, "GET", PATH.to_owned()).await {
            let shared = finding(&report);
            board.lock().posture.report = Some(report);
            if let Some(id) = shared {
                let waited = since.get_or_insert_with(tokio::time::Instant::now).elapsed();
                let proposed = board.lock().posture.dry_run.is_some();
                if !proposed && waited > READING_TIME {
                    let plan =
                        ask(&target, "POST", format!("{PATH}/findings/{}/fix?dryRun=true", encoded(&id)));
                    board.lock().posture.dry_run = plan.await;
                } else if proposed && waited > 2 * READING_TIME {
                    fix(&target, &id, &keys, &board).await;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = stop.changed() => return,
        }
    }
}

async fn fix(target: &Arc<Target>, id: &str, keys: &[watch::Sender<SasKey>], board: &Shared) {
    let before = board.lock().posture.report.as_ref().and_then(|report| report["score"].as_f64());
    let Some(fixed) = ask(target, "POST", format!("{PATH}/findings/{}/fix", encoded(id))).await else {
        return;
    };
    let after = ask(target, "GET", PATH.to_owned()).await;
    {
        let mut board = board.lock();
        board.posture.report = after.or(board.posture.report.take());
        board.posture.fixed = Some((before.unwrap_or_default(), fixed));
    }
    for (member, key) in MEMBERS.iter().zip(keys) {
        let shares = MEMBERS.iter().any(|other| other.flaw == Flaw::KeyOf(member.id));
        if !shares && !matches!(member.flaw, Flaw::KeyOf(_)) {
            continue;
        }
        let (target, id) = (target.clone(), member.id);
        if let Ok(Ok(new)) = tokio::task::spawn_blocking(move || key_of(&target, id)).await {
            key.send_replace(new);
        }
    }
}

/// The open finding that the demo fixes.
fn finding(report: &Value) -> Option<String> {
    let findings = report["findings"].as_array()?;
    let shared = findings.iter().find(|f| f["check"] == "id-shared-credential" && f["state"] == "open")?;
    shared["id"].as_str().map(str::to_owned)
}

async fn ask(target: &Arc<Target>, method: &'static str, path: String) -> Option<Value> {
    let target = target.clone();
    tokio::task::spawn_blocking(move || target.management(Request::new(method, path))).await.ok()?.ok()
}
