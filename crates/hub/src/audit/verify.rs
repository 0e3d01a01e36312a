//! Verification: recomputes the log from the texts of its records, block by block, and holds it against everything that was
//! promised of it: its own stored hashes, the checkpoints that the hub keeps, and those that somebody exported earlier.
//!
//! Call [`Verifier::new`], then [`Verifier::block`] for each block in order, then [`Verifier::finish`]. The state is the
//! frontier, the checkpoints, and the runs of numbers whose bodies are gone, never the log.

use serde::Serialize;
use serde_json::Value;

use super::checkpoint::Checkpoint;
use super::evidence::{Block, Head, Kept, Stored};
use super::note::VerifierKey;
use super::proof::roots_by_full_path;
use super::runs::Runs;
use super::tree::{Frontier, Hash, Node, root_of};
use super::{BLOCK_LEVEL, BLOCK_RECORDS, numbers_of};

/// Findings that a verdict names; there may be more.
pub const FINDINGS_MAX: usize = 100;

/// What somebody did to the log. Of two that are seen of one record, the one that stands first here says more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Tampering {
    /// The text of a record is not the one that its stored hash is of.
    Edited,
    /// A record is gone that retention did not drop.
    Deleted,
    /// Records at the end are gone.
    Truncated,
    /// In the place of a record stands another one.
    Moved,
    /// Texts and their stored hashes were changed together.
    Rewritten,
    /// A record is not found by what it says.
    Misfiled,
    /// A checkpoint that the hub keeps is not what the hub signed.
    Checkpoint,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What it is.
    pub kind: Tampering,
    /// The first record that it concerns, or may concern.
    pub first: u64,
    /// The last one of which the first concerned record is one; the same as `first` when it is known exactly.
    pub last: u64,
    /// In words.
    pub explanation: String,
}

/// What verification came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Whether nothing is wrong.
    pub sound: bool,
    /// How many records the log has.
    pub size: u64,
    /// The root of their tree, recomputed; `None` when too much is missing for it.
    pub root: Option<Hash>,
    /// The first record that is wrong, or the first that may be.
    pub first_bad: Option<u64>,
    /// The last that may be the first wrong one.
    pub last_bad: Option<u64>,
    /// What was done to it.
    pub kind: Option<Tampering>,
    /// In words.
    pub explanation: String,
    /// Everything that was found, by number.
    pub findings: Vec<Finding>,
    /// Records whose texts were hashed.
    pub read: u64,
    /// Records whose bodies retention dropped, which their hashes stand for.
    pub dropped: u64,
    /// Checkpoints whose roots were found to be those of the log, the hub's own included.
    pub checkpoints: u64,
    /// Given checkpoints that could not be compared, each with the reason. A log is not sound by them.
    pub unchecked: Vec<String>,
}

/// A checkpoint that somebody kept elsewhere, whose signature was checked.
#[derive(Debug, Clone)]
pub struct Given {
    /// What to call it: its file.
    pub name: String,
    /// What it says.
    pub checkpoint: Checkpoint,
    agreed: Option<bool>,
}

impl Given {
    /// A checkpoint under a name.
    pub fn new(name: impl Into<String>, checkpoint: Checkpoint) -> Self {
        Self { name: name.into(), checkpoint, agreed: None }
    }
}

/// Verifies one log.
pub struct Verifier {
    head: Head,
    frontier: Frontier,
    /// Whether the leaf hash of a record is unknown, so that no root behind it can be computed.
    broken: bool,
    kept: Vec<(Kept, Option<Checkpoint>)>,
    given: Vec<Given>,
    findings: Vec<Finding>,
    /// The finding that the verdict names, among the kept ones or not.
    first: Option<Finding>,
    missing: Runs,
    droppable: Runs,
    read: u64,
    agreeing: u64,
    /// The largest size at which a kept checkpoint agreed, all before it agreeing too.
    kept_agreed_to: u64,
    kept_disagreed: bool,
    before_the_log: (Hash, Hash),
}

impl Verifier {
    /// Begins with what the log says of itself, the checkpoints that the hub keeps (by rising size), the key of the log, and
    /// the checkpoints that somebody brought.
    pub fn new(head: Head, kept: Vec<Kept>, key: &VerifierKey, given: Vec<Given>) -> Self {
        let nothing = Hash::of_leaf(b"");
        let mut new = Self {
            head,
            frontier: Frontier::default(),
            broken: false,
            kept: Vec::with_capacity(kept.len()),
            given,
            findings: Vec::new(),
            first: None,
            missing: Runs::default(),
            droppable: Runs::default(),
            read: 0,
            agreeing: 0,
            kept_agreed_to: 0,
            kept_disagreed: false,
            before_the_log: (nothing, root_of(&[nothing; BLOCK_RECORDS as usize])),
        };
        for kept in kept {
            let checkpoint = new.opened(&kept, key);
            new.kept.push((kept, checkpoint));
        }
        new
    }

    fn opened(&mut self, kept: &Kept, key: &VerifierKey) -> Option<Checkpoint> {
        let problem = match Checkpoint::open(&kept.note, key) {
            Ok(checkpoint) if checkpoint.size == kept.size => return Some(checkpoint),
            Ok(checkpoint) => format!("it is for {} records", checkpoint.size),
            Err(error) => error.to_string(),
        };
        let text =
            format!("the checkpoint that the hub keeps for {} records was changed: {problem}", kept.size);
        self.found(Tampering::Checkpoint, 1, kept.size.max(1), text);
        None
    }

    /// Takes the next block. `known` has, for each given checkpoint, the hashes that were exported with it for this block:
    /// one of each leaf, or that of the whole block, or none.
    pub fn block(&mut self, block: &Block, known: &[Vec<Hash>]) {
        if self.broken {
            block.records.iter().for_each(|record| self.note_retention(record));
            return;
        }
        let whole = numbers_of(block.number, self.head.size).count() as u64 == BLOCK_RECORDS;
        let dropped = whole && block.records.is_empty() && block.leaves.is_none();
        match block.node(BLOCK_LEVEL) {
            Some(hash) if dropped => self.dropped_block(block, hash, known),
            _ => self.kept_block(block, known),
        }
    }

    fn kept_block(&mut self, block: &Block, known: &[Vec<Hash>]) {
        let mut records = block.records.iter().peekable();
        let mut made = Vec::new();
        for (at, number) in numbers_of(block.number, self.head.size).enumerate() {
            let stands = records.next_if(|record| record.number == number);
            let known = self.known_leaves(block.number, at, known);
            let leaf = match stands {
                Some(record) => Some(self.record(record)),
                None => self.absent(number, block.leaves.as_ref().and_then(|leaves| leaves.get(at)).copied()),
            };
            let Some(leaf) = leaf.or_else(|| known.first().copied()) else {
                self.broken = true;
                return;
            };
            if known.iter().any(|known| *known != leaf) {
                let text = format!(
                    "record {number} is not the one that the checkpoint vouches for: its text and its stored hash were \
                     changed together"
                );
                self.found(Tampering::Rewritten, number, number, text);
            }
            self.frontier.push(leaf, |node| made.push(node));
            self.compare_roots(number);
        }
        self.compare_nodes(block, &made);
        if let Some(node) = made.iter().find(|node| node.level == BLOCK_LEVEL) {
            self.compare_known_nodes(block, node.hash, known);
        }
    }

    /// The leaf hashes that were exported of the record at this place of a block.
    fn known_leaves(&self, block: u64, at: usize, known: &[Vec<Hash>]) -> Vec<Hash> {
        let of = |(given, hashes): (&Given, &Vec<Hash>)| {
            // One hash stands for a whole block, unless there was only one record in it.
            let records = numbers_of(block, given.checkpoint.size).count();
            (hashes.len() == records).then(|| hashes.get(at).copied()).flatten()
        };
        self.given.iter().zip(known).filter_map(of).collect()
    }

    /// The leaf hash to go on with for a record that is there: the stored one, so that an edited text is one finding and does
    /// not spoil every root behind it.
    fn record(&mut self, record: &Stored) -> Hash {
        self.read += 1;
        let (number, computed) = (record.number, Hash::of_leaf(record.entry.as_bytes()));
        if record.leaf != Some(computed) {
            let text =
                format!("the text of record {number} was changed: its hash is not the one stored with it");
            self.found(Tampering::Edited, number, number, text);
            return record.leaf.unwrap_or(computed);
        }
        let says = serde_json::from_str::<Value>(&record.entry).ok().and_then(|text| text["number"].as_u64());
        if says != Some(number) {
            let says = says.map_or("none".to_owned(), |says| says.to_string());
            let text = format!("in the place of record {number} stands one whose own number is {says}");
            self.found(Tampering::Moved, number, number, text);
        } else if record.misfiled {
            let text = format!(
                "record {number} is not found by what it says: its device, address, kind or outcome was changed beside it"
            );
            self.found(Tampering::Misfiled, number, number, text);
        }
        self.note_retention(record);
        computed
    }

    fn note_retention(&mut self, record: &Stored) {
        // A look at the text first: of thousands of records one is of retention.
        if !record.entry.contains("\"retention\"") {
            return;
        }
        let Ok(text) = serde_json::from_str::<Value>(&record.entry) else { return };
        let act = &text["act"];
        let (Some("retention"), Some(mut first), Some(last)) =
            (act["kind"].as_str(), act["first"].as_u64(), act["last"].as_u64())
        else {
            return;
        };
        if last >= record.number {
            return;
        }
        for kept in act["kept"].as_array().into_iter().flatten().filter_map(Value::as_u64) {
            self.droppable.add(first, kept.saturating_sub(1).min(last));
            first = kept.saturating_add(1);
        }
        self.droppable.add(first, last);
    }

    /// The leaf hash to go on with for a record that is not there.
    fn absent(&mut self, number: u64, leaf: Option<Hash>) -> Option<Hash> {
        match leaf {
            Some(leaf) if leaf == self.before_the_log.0 => {}
            Some(_) => self.missing.add(number, number),
            None => self.lost(number, number),
        }
        leaf
    }

    fn lost(&mut self, first: u64, last: u64) {
        let newest = self.head.newest;
        if first > newest {
            let text = format!(
                "the log ends at record {newest}, and record {first} was the next: the end was cut off"
            );
            self.found(Tampering::Truncated, first, first, text);
        } else {
            let what = if first == last {
                format!("record {first} was")
            } else {
                format!("records {first} to {last} were")
            };
            self.found(Tampering::Deleted, first, first, format!("{what} deleted, and not by retention"));
        }
    }

    /// A block of which nothing is left but its node.
    fn dropped_block(&mut self, block: &Block, hash: Hash, known: &[Vec<Hash>]) {
        let numbers = numbers_of(block.number, self.head.size);
        if hash != self.before_the_log.1 {
            self.missing.add(*numbers.start(), *numbers.end());
        }
        let before = numbers.start() - 1;
        for at in self.kept_within(*numbers.start(), *numbers.end()) {
            let (kept, checkpoint) = &self.kept[at];
            let path = kept.path.as_deref().unwrap_or_default();
            let roots = roots_by_full_path(kept.size - before, BLOCK_RECORDS, path);
            let root = roots.filter(|roots| roots.1 == hash).map(|roots| self.frontier.root_with(roots.0));
            let (size, says) = (kept.size, checkpoint.as_ref().map(|checkpoint| checkpoint.root));
            self.compare_kept(size, says, root);
            if let Some(root) = root {
                self.compare_given(size, root);
            }
        }
        let mut made = Vec::new();
        self.frontier.push_subtree(BLOCK_LEVEL, hash, |node| made.push(node));
        self.compare_roots(*numbers.end());
        self.compare_nodes(block, &made);
        self.compare_known_nodes(block, hash, known);
    }

    fn kept_within(&self, first: u64, end: u64) -> std::ops::Range<usize> {
        let from = self.kept.partition_point(|(kept, _)| kept.size < first);
        from..self.kept.partition_point(|(kept, _)| kept.size < end)
    }

    /// Compares the root at this size with every checkpoint of the size.
    fn compare_roots(&mut self, size: u64) {
        let kept = self.kept_within(size, size + 1);
        if kept.is_empty() && self.given.iter().all(|given| given.checkpoint.size != size) {
            return;
        }
        let root = self.frontier.root();
        for at in kept {
            let says = self.kept[at].1.as_ref().map(|checkpoint| checkpoint.root);
            self.compare_kept(size, says, Some(root));
        }
        self.compare_given(size, root);
    }

    fn compare_kept(&mut self, size: u64, says: Option<Hash>, root: Option<Hash>) {
        // One that does not open was found already.
        let Some(says) = says else { return };
        if root == Some(says) {
            self.agreeing += 1;
            if !self.kept_disagreed {
                self.kept_agreed_to = size;
            }
        } else if !self.kept_disagreed {
            self.kept_disagreed = true;
            let first = self.kept_agreed_to + 1;
            let text = format!(
                "the hub signed another log: of records {first} to {size} at least one was changed together with its stored \
                 hash, or the checkpoint for {size} records was"
            );
            self.found(Tampering::Rewritten, first, size, text);
        }
    }

    fn compare_given(&mut self, size: u64, root: Hash) {
        let agreed_to = |given: &[Given]| {
            given.iter().filter(|given| given.agreed == Some(true)).map(|given| given.checkpoint.size).max()
        };
        for at in 0..self.given.len() {
            if self.given[at].checkpoint.size != size || self.given[at].agreed.is_some() {
                continue;
            }
            let agreed = root == self.given[at].checkpoint.root;
            self.given[at].agreed = Some(agreed);
            if agreed {
                self.agreeing += 1;
                continue;
            }
            let (first, name) = (agreed_to(&self.given).unwrap_or_default() + 1, &self.given[at].name);
            let text = format!(
                "this is not the log of the checkpoint {name}: of records {first} to {size} at least one was changed, \
                 together with everything that the hub keeps"
            );
            self.found(Tampering::Rewritten, first.min(size), size, text);
        }
    }

    /// Compares the stored nodes that a block completes with those that were made of it.
    fn compare_nodes(&mut self, block: &Block, made: &[Node]) {
        for node in made.iter().filter(|node| node.level.is_multiple_of(BLOCK_LEVEL)) {
            if block.node(node.level) == Some(node.hash) {
                continue;
            }
            let last = *numbers_of(block.number, self.head.size).end();
            let first = last - (1 << node.level) + 1;
            let text = format!(
                "the stored hash of records {first} to {last} is not theirs: one of them was changed together with its own \
                 stored hash, or this hash was"
            );
            self.found(Tampering::Rewritten, first, last, text);
        }
    }

    /// Compares a block's node with those that were exported.
    fn compare_known_nodes(&mut self, block: &Block, hash: Hash, known: &[Vec<Hash>]) {
        let numbers = numbers_of(block.number, self.head.size);
        let differs = self.given.iter().zip(known).any(|(given, known)| {
            given.checkpoint.size >= *numbers.end()
                && match known[..] {
                    [] => false,
                    [node] => node != hash,
                    _ => root_of(known) != hash,
                }
        });
        let named = self.findings.iter().any(|finding| numbers.contains(&finding.first));
        if differs && !named {
            let (first, last) = (*numbers.start(), *numbers.end());
            let text =
                format!("of records {first} to {last} at least one is not what the checkpoint vouches for");
            self.found(Tampering::Rewritten, first, last, text);
        }
    }

    /// Takes a block that came to be while the log was verified, for what it says of retention alone.
    pub fn late_block(&mut self, block: &Block) {
        block.records.iter().for_each(|record| self.note_retention(record));
    }

    /// Whether bodies are missing that no record of retention accounts for, so far.
    pub fn misses_bodies(&self) -> bool {
        self.missing.first_not_in(&self.droppable).is_some()
    }

    /// Ends with the verdict.
    pub fn finish(mut self) -> Verdict {
        if let Some((first, last)) = self.missing.first_not_in(&self.droppable) {
            self.lost(first, last);
        }
        let size = self.head.size;
        let beyond = |at: u64| (at > size).then_some(at);
        let kept = self.kept.iter().filter_map(|(kept, opened)| opened.as_ref().and(beyond(kept.size)));
        let given = self.given.iter().filter_map(|given| beyond(given.checkpoint.size));
        if let Some(most) = kept.chain(given).max() {
            let first = size + 1;
            let text = format!(
                "a checkpoint was signed for {most} records: record {first} and all behind it were cut off"
            );
            self.found(Tampering::Truncated, first, first, text);
        }
        let unchecked: Vec<String> = self
            .given
            .iter()
            .filter(|given| {
                given.agreed.is_none() && given.checkpoint.size > 0 && given.checkpoint.size <= size
            })
            .map(|given| {
                format!(
                    "{}: the log cannot be compared at {} records, for the hashes there are gone",
                    given.name, given.checkpoint.size
                )
            })
            .collect();
        self.verdict(unchecked)
    }

    fn verdict(mut self, unchecked: Vec<String>) -> Verdict {
        let first = self.first;
        self.findings.sort_by_key(|finding| (finding.first, finding.last, finding.kind));
        let explanation = match &first {
            Some(finding) => finding.explanation.clone(),
            None if !unchecked.is_empty() => "nothing is wrong as far as it could be compared".to_owned(),
            None => "every record is what it was when it was written".to_owned(),
        };
        Verdict {
            sound: first.is_none() && unchecked.is_empty(),
            size: self.head.size,
            root: (!self.broken).then(|| self.frontier.root()),
            first_bad: first.as_ref().map(|finding| finding.first),
            last_bad: first.as_ref().map(|finding| finding.last),
            kind: first.map(|finding| finding.kind),
            explanation,
            findings: self.findings,
            read: self.read,
            dropped: self.missing.count(),
            checkpoints: self.agreeing,
            unchecked,
        }
    }

    /// Keeps a finding, one for each kind and place.
    fn found(&mut self, kind: Tampering, first: u64, last: u64, explanation: String) {
        let finding = Finding { kind, first, last, explanation };
        // What is known exactly comes before a range that it may be the reason of.
        let key = |finding: &Finding| (finding.last, finding.first, finding.kind);
        if self.first.as_ref().is_none_or(|known| key(&finding) < key(known)) {
            self.first = Some(finding.clone());
        }
        if self.findings.len() < FINDINGS_MAX
            && !self.findings.iter().any(|known| key(known) == key(&finding))
        {
            self.findings.push(finding);
        }
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
