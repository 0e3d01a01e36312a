use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_executor::block_on;

use super::*;
use crate::ports::BoxFuture;
use crate::ports::blobs::{BlobError, Part};

/// Keeps names and lengths alone, and counts how often they are listed.
#[derive(Default)]
struct Lengths {
    parts: Arc<Mutex<HashMap<PartName, u64>>>,
    lists: AtomicUsize,
}

struct Length(Arc<Mutex<HashMap<PartName, u64>>>, PartName, u64);

impl PartWriter for Length {
    fn write(&mut self, bytes: bytes::Bytes) -> BoxFuture<'_, Result<(), BlobError>> {
        self.2 += bytes.len() as u64;
        Box::pin(async { Ok(()) })
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), BlobError>> {
        self.0.lock().expect("no panic").insert(self.1, self.2);
        Box::pin(async { Ok(()) })
    }
}

impl Blobs for Lengths {
    fn begin(&self, _: &Stage, part: &PartName) -> BoxFuture<'_, Result<Box<dyn PartWriter>, BlobError>> {
        let writer: Box<dyn PartWriter> = Box::new(Length(self.parts.clone(), part.clone(), 0));
        Box::pin(async { Ok(writer) })
    }

    fn parts(&self, _: &Stage) -> BoxFuture<'_, Result<Vec<Part>, BlobError>> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        let parts = self.parts.lock().expect("no panic");
        let parts = parts.iter().map(|(name, bytes)| Part { name: name.clone(), bytes: *bytes }).collect();
        Box::pin(async { Ok(parts) })
    }

    fn read(
        &self,
        _: &Stage,
        _: &PartName,
        _: u64,
        _: usize,
    ) -> BoxFuture<'_, Result<bytes::Bytes, BlobError>> {
        Box::pin(async { Err(BlobError::Gone) })
    }

    fn rounds(&self, _: &str) -> BoxFuture<'_, Result<Vec<u32>, BlobError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn retain(&self, _: &Stage, _: &[Part]) -> BoxFuture<'_, Result<(), BlobError>> {
        Box::pin(async { Ok(()) })
    }
}

fn device(number: usize) -> DeviceId {
    DeviceId::parse(&format!("d{number}")).expect("an id")
}

fn stage(upload: usize) -> Stage {
    Stage { upload: format!("u{upload}"), round: 0 }
}

fn part(number: usize) -> PartName {
    PartName(format!("p{number}"))
}

async fn write(
    staging: &Arc<Staging>,
    blobs: &Lengths,
    name: usize,
    bytes: usize,
) -> Result<u64, UploadError> {
    let mut writing = staging.begin(blobs, (&device(1), stage(1)), &part(name), 1_000).await?;
    writing.write(vec![0; bytes].into()).await?;
    writing.finish().await
}

#[test]
fn the_parts_of_a_stage_are_listed_once_and_not_for_each_block() {
    let (staging, blobs) = (Arc::new(Staging::default()), Lengths::default());
    block_on(async {
        for name in 0..20 {
            write(&staging, &blobs, name, 10).await.expect("there is room");
        }
    });
    assert_eq!(blobs.lists.load(Ordering::SeqCst), 1);
}

#[test]
fn a_part_that_is_written_again_and_again_counts_once() {
    let (staging, blobs) = (Arc::new(Staging::default()), Lengths::default());
    block_on(async {
        for _ in 0..20 {
            write(&staging, &blobs, 1, 400).await.expect("it replaces itself");
        }
        write(&staging, &blobs, 2, 600).await.expect("it fits exactly");
        let full = write(&staging, &blobs, 3, 1).await;
        assert!(matches!(full, Err(UploadError::TooLarge { limit: 1_000 })), "{full:?}");
    });
}

#[test]
fn a_device_that_writes_all_it_can_leaves_places_to_others() {
    let (staging, blobs) = (Arc::new(Staging::default()), Lengths::default());
    block_on(async {
        let mut held = Vec::new();
        let mut begin = async |of: usize, upload: usize, name: usize| {
            let begun = staging.begin(&blobs, (&device(of), stage(upload)), &part(name), 1_000).await;
            begun.map(|writing| held.push(writing))
        };
        for number in 0..WRITERS_OF_DEVICE_MAX {
            begin(1, number / WRITERS_OF_UPLOAD_MAX, number).await.expect("it may write so many");
        }
        assert!(matches!(begin(1, 9, 0).await, Err(UploadError::Busy)));
        begin(2, 10, 0).await.expect("another device has places of its own");
    });
}
