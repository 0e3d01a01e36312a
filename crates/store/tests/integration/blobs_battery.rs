//! What every adapter of the port of files' contents does.

use bytes::Bytes;
use holdfast_store::ObjectBlobs;
use hub::ports::blobs::{BlobError, Blobs, Part, PartName, Stage};

use crate::wait;

macro_rules! battery {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $name() { super::$name(&super::ObjectBlobs::in_memory()); })*
        }
        mod folder {
            $(#[test] fn $name() {
                let folder = tempfile::tempdir().unwrap();
                super::$name(&super::ObjectBlobs::in_folder(folder.path()).unwrap());
            })*
        }
    };
}

battery!(
    a_part_is_read_as_it_was_written,
    nothing_is_seen_of_a_part_that_was_given_up,
    a_part_takes_the_place_of_an_older_one,
    what_is_not_kept_is_gone,
);

fn stage(round: u32) -> Stage {
    Stage { upload: "1f".to_owned(), round }
}

fn name(text: &str) -> PartName {
    PartName(text.to_owned())
}

async fn write(blobs: &dyn Blobs, round: u32, part: &str, chunks: &[Vec<u8>]) -> Part {
    let mut writer = blobs.begin(&stage(round), &name(part)).await.unwrap();
    for chunk in chunks {
        writer.write(Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    writer.finish().await.unwrap();
    Part { name: name(part), bytes: chunks.iter().map(|chunk| chunk.len() as u64).sum() }
}

fn a_part_is_read_as_it_was_written(blobs: &dyn Blobs) {
    wait(async {
        let chunks: Vec<Vec<u8>> = (0..40_u8).map(|n| vec![n; 10_000 + usize::from(n)]).collect();
        let whole = chunks.concat();
        let part = write(blobs, 0, "b-_9", &chunks).await;
        let empty = write(blobs, 0, "empty", &[]).await;
        let mut parts = blobs.parts(&stage(0)).await.unwrap();
        parts.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(parts, [part, empty]);
        let mut read = Vec::new();
        loop {
            let some = blobs.read(&stage(0), &name("b-_9"), read.len() as u64, 70_000).await.unwrap();
            if some.is_empty() {
                break;
            }
            read.extend_from_slice(&some);
        }
        assert!(read == whole, "{} bytes of {}", read.len(), whole.len());
        assert_eq!(blobs.read(&stage(0), &name("empty"), 0, 9).await, Ok(Bytes::new()));
        assert_eq!(blobs.read(&stage(0), &name("other"), 0, 9).await, Err(BlobError::Gone));
    });
}

fn nothing_is_seen_of_a_part_that_was_given_up(blobs: &dyn Blobs) {
    wait(async {
        let mut writer = blobs.begin(&stage(0), &name("half")).await.unwrap();
        writer.write(Bytes::from(vec![7; 1_000_000])).await.unwrap();
        assert_eq!(blobs.parts(&stage(0)).await, Ok(Vec::new()));
        drop(writer);
        assert_eq!(blobs.parts(&stage(0)).await, Ok(Vec::new()));
        assert_eq!(blobs.read(&stage(0), &name("half"), 0, 9).await, Err(BlobError::Gone));
    });
}

fn a_part_takes_the_place_of_an_older_one(blobs: &dyn Blobs) {
    wait(async {
        write(blobs, 0, "p", &[vec![1; 9]]).await;
        let newer = write(blobs, 0, "p", &[vec![2; 3]]).await;
        assert_eq!(blobs.parts(&stage(0)).await, Ok(vec![newer]));
        assert_eq!(blobs.read(&stage(0), &name("p"), 1, 9).await, Ok(Bytes::from_static(&[2, 2])));
    });
}

fn what_is_not_kept_is_gone(blobs: &dyn Blobs) {
    wait(async {
        write(blobs, 0, "p", &[vec![1; 9]]).await;
        let kept = write(blobs, 1, "q", &[vec![2; 9]]).await;
        write(blobs, 1, "r", &[vec![3; 9]]).await;
        let mut rounds = blobs.rounds("1f").await.unwrap();
        rounds.sort_unstable();
        assert_eq!(rounds, [0, 1]);
        blobs.retain(&stage(0), &[]).await.unwrap();
        blobs.retain(&stage(1), std::slice::from_ref(&kept)).await.unwrap();
        blobs.retain(&stage(2), &[]).await.unwrap();
        assert_eq!(blobs.rounds("1f").await, Ok(vec![1]));
        assert_eq!(blobs.parts(&stage(1)).await, Ok(vec![kept]));
        blobs.retain(&stage(1), &[]).await.unwrap();
        assert_eq!(blobs.rounds("1f").await, Ok(Vec::new()));
        assert_eq!(blobs.rounds("2f").await, Ok(Vec::new()));
    });
}

#[test]
fn what_a_crash_left_of_a_part_goes_with_its_stage() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = ObjectBlobs::in_folder(folder.path()).unwrap();
    wait(async {
        let mut writer = blobs.begin(&stage(0), &name("half")).await.unwrap();
        writer.write(Bytes::from(vec![7; 1_000_000])).await.unwrap();
        // As a process leaves it that ends here.
        std::mem::forget(writer);
        let again = ObjectBlobs::in_folder(folder.path()).unwrap();
        assert_eq!(again.parts(&stage(0)).await, Ok(Vec::new()));
        assert_eq!(again.rounds("1f").await, Ok(vec![0]));
        again.retain(&stage(0), &[]).await.unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    });
}
