//! How partitions are found for devices, which is fixed when a journal is made. An empty file says it by its name: it is
//! there before the first segment is.

use std::io;

use hub::placement::Placement;

use super::disk::Disk;
use super::segment;

const LOOKUP3: &str = "placement-lookup3";

/// How it is in this directory, and notes it in a new one.
pub(super) fn of(disk: &dyn Disk) -> io::Result<Placement> {
    let names = disk.names()?;
    if names.iter().any(|name| name == LOOKUP3) {
        return Ok(Placement::Lookup3);
    }
    if names.iter().any(|name| segment::number(name).is_some()) {
        return Ok(Placement::Fnv1a);
    }
    disk.create(LOOKUP3)?;
    disk.sync()?;
    Ok(Placement::Lookup3)
}
