-- The decisions become the leaves of a Merkle tree (`hub::audit`): the body of a record, which from now on begins with its
-- number, is the entry of leaf `number` - 1, and `leaf` is the hash of it, written in the same transaction.
ALTER TABLE decisions ADD COLUMN leaf BLOB NOT NULL DEFAULT x'';
UPDATE decisions SET body = '{"number":' || number || ',' || substr(body, 2);

-- The nodes of levels 8, 16 and so on: the complete subtrees of 256, 65,536 and so on records.
CREATE TABLE audit_nodes (
    level  INTEGER NOT NULL,
    number INTEGER NOT NULL,
    hash   BLOB    NOT NULL,
    PRIMARY KEY (level, number)
) STRICT, WITHOUT ROWID;

-- The leaf hashes of blocks of 256 records some of whose bodies were dropped and some are there, 32 bytes each. `changed` of
-- `decisions` is 1 for every body that stays for ever: records of changes, and those of retention.
CREATE TABLE audit_leaves (
    block  INTEGER PRIMARY KEY,
    leaves BLOB    NOT NULL
) STRICT;

-- The checkpoints that the hub signed. `path` leads from the size to the end of its block, once the leaf hashes are gone.
CREATE TABLE checkpoints (
    size     INTEGER PRIMARY KEY,
    time     TEXT    NOT NULL,
    note     TEXT    NOT NULL,
    exported INTEGER NOT NULL,
    path     BLOB
) STRICT;
