//! The audit log in Holdfast's own API, below `/holdfast/v1/audit`. It hands out what is kept, and leaves judging it to
//! whoever asks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use hub::audit::checkpoint::Checkpoint;
use hub::audit::file::{CONSISTENCY_FORMAT, ConsistencyFile, INCLUSION_FORMAT, InclusionFile};
use hub::decision::DecisionFilter;
use hub::error::{HubError, HubErrorCode};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::answer::{Answer, json_body};
use super::request::{self, Asked};
use super::{HttpsFront, shapes};

const BODY_BYTES_MAX: usize = 128 * 1024;
/// Records that one answer lists.
const RECORDS_MAX: usize = 1_000;
/// Blocks that one answer holds: 1,024 records of a few hundred bytes, rarely of some thousand.
const BLOCKS_MAX: usize = 4;
/// Blocks whose hashes one answer holds, at most 11 KiB each.
const HASHES_MAX: usize = 64;
/// Kept checkpoints that one answer holds.
const CHECKPOINTS_MAX: usize = 1_000;

/// Routes a request below `audit`, whose credential was checked.
pub(super) async fn dispatch(
    front: &HttpsFront,
    asked: &Asked,
    segments: &[&str],
    body: &mut Incoming,
) -> Result<Answer, HubError> {
    front.recorder.settle().await;
    let (registry, notary) = (&*front.hub.registry, &front.notary);
    match (asked.method.as_str(), segments) {
        ("GET", []) => {
            let head = registry.head().await?;
            let key = notary.verifier().to_string();
            answer(&json!({ "size": head.size, "root": head.root, "newest": head.newest, "key": key }))
        }
        ("GET", ["records"]) => answer(&registry.decisions(filter(asked)?).await?),
        ("GET", ["records", number, "proof"]) => inclusion(front, self::number(number)?).await,
        ("GET", ["blocks"]) => {
            let (first, count) = page(asked, BLOCKS_MAX)?;
            answer(&registry.blocks(first, count).await?)
        }
        ("GET", ["hashes"]) => {
            let (first, count) = page(asked, HASHES_MAX)?;
            let size = asked.parameter("size").map_or(Ok(u64::MAX), number)?;
            let blocks = registry.blocks(first, count).await?;
            let hashes: Vec<String> = blocks
                .iter()
                .map(|block| block.hashes(size).iter().flat_map(|hash| hash.0).collect::<Vec<u8>>())
                .map(|bytes| STANDARD.encode(bytes))
                .collect();
            answer(&hashes)
        }
        ("GET", ["checkpoints"]) => {
            let above = asked.parameter("above").map_or(Ok(0), number)?;
            answer(&registry.checkpoints(above, CHECKPOINTS_MAX).await?)
        }
        ("POST", ["checkpoints"]) => answer(&notary.checkpoint(true).await?),
        ("POST", ["consistency"]) => {
            let body = request::json(body, BODY_BYTES_MAX, &shapes::CONSISTENCY).await?;
            consistency(front, body["old"].as_str().unwrap_or_default()).await
        }
        _ => Err(HubError::new(HubErrorCode::GenericNotFound, "There is no such resource")),
    }
}

async fn inclusion(front: &HttpsFront, number: u64) -> Result<Answer, HubError> {
    let kept = front.notary.checkpoint(true).await?;
    let Some(proof) = front.hub.registry.inclusion(number, kept.size).await? else {
        let text = match number {
            1.. if number <= kept.size => format!("The body of record {number} was dropped"),
            _ => format!("There is no record {number}: the log has {}", kept.size),
        };
        return Err(HubError::new(HubErrorCode::GenericNotFound, text));
    };
    answer(&InclusionFile {
        format: INCLUSION_FORMAT.to_owned(),
        index: proof.index,
        size: proof.size,
        entry: proof.entry,
        path: proof.path,
        checkpoint: kept.note,
    })
}

async fn consistency(front: &HttpsFront, old: &str) -> Result<Answer, HubError> {
    let invalid = |text: String| HubError::new(HubErrorCode::ArgumentInvalid, text);
    let opened = Checkpoint::open(old, front.notary.verifier())
        .map_err(|error| invalid(format!("`old` is no checkpoint of this log: {error}")))?;
    let kept = front.notary.checkpoint(true).await?;
    let Some(path) = front.hub.registry.consistency(opened.size, kept.size).await? else {
        let (old, new) = (opened.size, kept.size);
        return Err(invalid(format!("The log of {new} records cannot be compared with that of {old}")));
    };
    let format = CONSISTENCY_FORMAT.to_owned();
    answer(&ConsistencyFile { format, old: old.to_owned(), new: kept.note, path })
}

/// The records that the parameters name, newest first.
fn filter(asked: &Asked) -> Result<DecisionFilter, HubError> {
    let limit = asked.parameter("limit").map_or(Ok(RECORDS_MAX as u64), number)?;
    Ok(DecisionFilter {
        device: asked.parameter("device").map(str::to_owned),
        address: asked.parameter("address").map(|text| parsed(text, "an IP address")).transpose()?,
        refused_only: asked.parameter("refused").is_some_and(|text| text == "true"),
        kind: asked.parameter("kind").map(str::to_owned),
        since: asked.parameter("since").map(|text| parsed(text, "a time")).transpose()?,
        until: asked.parameter("until").map(|text| parsed(text, "a time")).transpose()?,
        before: asked.parameter("before").map(number).transpose()?,
        limit: usize::try_from(limit).unwrap_or(usize::MAX).min(RECORDS_MAX),
    })
}

fn page(asked: &Asked, count_max: usize) -> Result<(u64, usize), HubError> {
    let first = asked.parameter("first").map_or(Ok(0), number)?;
    let count = asked.parameter("count").map_or(Ok(count_max as u64), number)?;
    Ok((first, usize::try_from(count).unwrap_or(usize::MAX).min(count_max)))
}

fn number(text: &str) -> Result<u64, HubError> {
    parsed(text, "a number")
}

fn parsed<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, HubError> {
    let invalid = |_| HubError::new(HubErrorCode::ArgumentInvalid, format!("'{text}' is not {what}"));
    text.parse().map_err(invalid)
}

fn answer(value: &impl serde::Serialize) -> Result<Answer, HubError> {
    let value: Value = serde_json::to_value(value)
        .map_err(|error| HubError::new(HubErrorCode::ServerError, error.to_string()))?;
    Ok(json_body(StatusCode::OK, &value))
}
