//! The posture of the fleet below `/holdfast/v1/posture`.

use http::StatusCode;
use hub::error::{HubError, HubErrorCode};
use hub::finding::{AppliedFix, Finding, Fix, Waiver};
use hub::fixes::Plan;
use hub::registry::By;
use hyper::body::Incoming;
use jiff::Timestamp;
use posture::check::Kind;
use serde_json::{Value, json};

use super::answer::{Answer, json_body};
use super::request::{self, Asked};
use super::{HttpsFront, shapes};
use crate::guard::Report;

const BODY_BYTES_MAX: usize = 16 * 1024;

/// Routes a request about the posture.
pub(super) async fn dispatch(
    front: &HttpsFront,
    asked: &Asked,
    segments: &[&str],
    body: &mut Incoming,
    by: &By,
) -> Result<Answer, HubError> {
    // What was decided before this question is part of the answer.
    front.recorder.settle().await;
    let (guard, hub) = (&*front.guard, &*front.hub);
    let value = match (asked.method.as_str(), segments) {
        ("GET", []) => report_json(&*guard.report().await?, hub.now()),
        ("GET", ["report"]) => {
            let report = guard.report().await?;
            json!({
                "hub": hub.settings.hosts.first(),
                "time": report.time,
                "score": report.score.score,
                "coverage": report.score.coverage,
                "rows": posture::report::rows(&report.tallies, &report.findings, report.time),
            })
        }
        ("GET", ["checks"]) => checks_json(),
        ("GET", ["fixes"]) => hub.applied_fixes().await?.iter().map(applied_json).collect(),
        ("GET", ["findings", id]) => {
            guard.report().await?;
            finding_json(&hub.finding(id).await?, hub.now())
        }
        ("POST", ["findings", id, "fix"]) if asked.parameter("dryRun") == Some("true") => {
            let proposal = guard.propose(id).await?;
            json!({
                "finding": finding_json(&proposal.finding, hub.now()),
                "dryRun": true,
                "changes": proposal.plan.changes,
                "cutsOff": proposal.plan.cuts_off,
            })
        }
        ("POST", ["findings", id, "fix"]) => {
            let fixed = guard.fix(id, by).await?;
            json!({
                "fix": fixed.applied.id,
                "dryRun": false,
                "changes": fixed.plan.changes,
                "cutsOff": fixed.plan.cuts_off,
                "next": next_steps(&fixed.applied.fix, &fixed.plan),
                "undo": format!("holdfast posture undo {}", fixed.applied.id),
                "score": fixed.report.score.score,
                "coverage": fixed.report.score.coverage,
            })
        }
        ("PUT", ["findings", id, "waiver"]) => {
            let waiver: Waiver =
                serde_json::from_value(request::json(body, BODY_BYTES_MAX, &shapes::WAIVER).await?)
                    .map_err(|error| HubError::new(HubErrorCode::ArgumentInvalid, error.to_string()))?;
            guard.report().await?;
            let finding = hub.waive_finding(id, Some(waiver), by).await?;
            guard.look_again();
            finding_json(&finding, hub.now())
        }
        ("DELETE", ["findings", id, "waiver"]) => {
            let finding = hub.waive_finding(id, None, by).await?;
            guard.look_again();
            finding_json(&finding, hub.now())
        }
        ("POST", ["fixes", id, "undo"]) => {
            let (applied, report) = guard.undo(id, by).await?;
            let mut value = applied_json(&applied);
            value["score"] = json!(report.score.score);
            value["coverage"] = json!(report.score.coverage);
            value
        }
        _ => return Err(HubError::new(HubErrorCode::GenericNotFound, "There is no such resource")),
    };
    Ok(json_body(StatusCode::OK, &value))
}

fn report_json(report: &Report, now: Timestamp) -> Value {
    let (open, closed): (Vec<_>, Vec<_>) =
        report.findings.iter().partition(|finding| finding.closed.is_none());
    json!({
        "score": report.score.score,
        "coverage": report.score.coverage,
        "time": report.time,
        "tookMilliseconds": report.took.as_millis() as u64,
        "findings": open.iter().map(|finding| finding_json(finding, now)).collect::<Vec<_>>(),
        "closed": closed.iter().map(|finding| finding_json(finding, now)).collect::<Vec<_>>(),
        "checks": report.tallies,
    })
}

fn finding_json(finding: &Finding, now: Timestamp) -> Value {
    let state = match (finding.closed, finding.counts(now)) {
        (Some(_), _) => "closed",
        (None, true) => "open",
        (None, false) => "waived",
    };
    json!({
        "id": finding.id,
        "check": finding.check,
        "title": title(&finding.check),
        "severity": finding.severity,
        "state": state,
        "resource": finding.resource,
        "resources": finding.resources,
        "summary": finding.summary,
        "evidence": finding.evidence,
        "fix": {
            "command": finding.fix.as_ref().map(|_| format!("holdfast posture fix {}", finding.id)),
            "change": finding.fix,
            "advice": finding.advice,
        },
        "firstSeen": finding.first_seen,
        "opened": finding.opened,
        "count": finding.count,
        "closed": finding.closed,
        "waiver": finding.waiver,
    })
}

fn applied_json(applied: &AppliedFix) -> Value {
    json!({
        "id": applied.id,
        "finding": applied.finding,
        "check": applied.check,
        "fix": applied.fix,
        "actor": applied.actor,
        "time": applied.time,
        "undone": applied.undone,
    })
}

fn checks_json() -> Value {
    posture::checks::all()
        .iter()
        .map(|check| {
            let about = check.about();
            json!({
                "id": about.id,
                "kind": match about.kind { Kind::Posture => "posture", Kind::Detection => "detection" },
                "severity": about.severity,
                "title": about.title,
                "threat": about.threat,
                "remedy": about.remedy,
                "covers": about.covers,
            })
        })
        .collect()
}

fn title(check: &str) -> &'static str {
    let checks = posture::checks::all();
    checks.iter().map(|c| c.about()).find(|about| about.id == check).map_or("", |about| about.title)
}

/// What is left for people to do after a fix.
fn next_steps(fix: &Fix, plan: &Plan) -> Vec<String> {
    match fix {
        Fix::RotateKeys { .. } => plan
            .cuts_off
            .iter()
            .map(|identity| match identity.split_once('/') {
                None => format!("holdfast device show {identity} --keys"),
                Some((device, module)) => format!("holdfast module show {device} {module} --keys"),
            })
            .collect(),
        Fix::RotatePolicyKey { policy, .. } | Fix::CreatePolicy { policy, .. } => {
            vec![format!("holdfast policy show {policy} --keys")]
        }
        _ => Vec::new(),
    }
}
