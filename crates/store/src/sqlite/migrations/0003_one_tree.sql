-- What a connection writes costs as little as it can: records lie in the tree of their keys, and they are counted by the
-- change that adds or removes them instead of by a trigger for each row.
CREATE TABLE records_by_key (
    kind    INTEGER NOT NULL,
    owner   TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    version INTEGER NOT NULL,
    body    TEXT    NOT NULL,
    PRIMARY KEY (kind, owner, name)
) STRICT, WITHOUT ROWID;
INSERT INTO records_by_key SELECT kind, owner, name, version, body FROM records ORDER BY kind, owner, name;
DROP TABLE records;
ALTER TABLE records_by_key RENAME TO records;

CREATE INDEX devices_disabled ON records (owner)
WHERE kind = 1 AND json_extract(body, '$.status') = 'disabled';

-- Records of use (8, 9) are not counted.
DELETE FROM kinds WHERE kind IN (8, 9);

-- What SQLite and an index remembered of the audit log with each record is remembered once for each transaction: how many
-- records were ever written, how many of those that are there the bound counts, and the number of the first of them.
CREATE TABLE audit_edge (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    size    INTEGER NOT NULL,
    bounded INTEGER NOT NULL,
    oldest  INTEGER NOT NULL
) STRICT;
INSERT INTO audit_edge
SELECT 1,
       max(coalesce((SELECT max(number) FROM decisions), 0),
           coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'decisions'), 0)),
       (SELECT count(*) FROM decisions WHERE changed = 0),
       coalesce((SELECT min(number) FROM decisions WHERE changed = 0), 1);

CREATE TABLE decisions_numbered (
    number  INTEGER PRIMARY KEY,
    changed INTEGER NOT NULL,
    refused INTEGER NOT NULL,
    device  TEXT,
    address TEXT,
    leaf    BLOB    NOT NULL,
    body    TEXT    NOT NULL
) STRICT;
INSERT INTO decisions_numbered
SELECT number, changed, refused, device, address, leaf, body FROM decisions ORDER BY number;
DROP TABLE decisions;
ALTER TABLE decisions_numbered RENAME TO decisions;

CREATE INDEX decisions_by_device ON decisions (device) WHERE device IS NOT NULL;
CREATE INDEX decisions_refused ON decisions (number) WHERE refused = 1;
-- Who asks for an address asks for its refusals; what else it did is found by a scan.
CREATE INDEX decisions_refused_by_address ON decisions (address) WHERE refused = 1;
CREATE INDEX decisions_changed ON decisions (number) WHERE changed = 1;
