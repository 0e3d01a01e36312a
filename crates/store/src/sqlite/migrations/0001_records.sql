-- The hub's records. `kind` is the number of `hub::record::Kind`; `owner` and `name` are the parts of the key, and
-- pairs of them sort as keys do; `body` is the record as JSON.
CREATE TABLE records (
    kind    INTEGER NOT NULL,
    owner   TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    version INTEGER NOT NULL,
    body    TEXT    NOT NULL,
    PRIMARY KEY (kind, owner, name)
) STRICT;

-- Only what is disabled is in it, so that counting that is quick in a fleet where most is not.
CREATE INDEX devices_disabled ON records (owner)
WHERE kind = 1 AND json_extract(body, '$.status') = 'disabled';

-- How many records of each kind there are: counting a million of them takes too long for a health page.
CREATE TABLE kinds (
    kind    INTEGER PRIMARY KEY,
    records INTEGER NOT NULL
) STRICT;

CREATE TRIGGER records_added AFTER INSERT ON records BEGIN
    INSERT INTO kinds (kind, records) VALUES (NEW.kind, 1)
    ON CONFLICT (kind) DO UPDATE SET records = records + 1;
END;

CREATE TRIGGER records_removed AFTER DELETE ON records BEGIN
    UPDATE kinds SET records = records - 1 WHERE kind = OLD.kind;
END;

-- The decisions, as JSON, with what they are searched by. `changed` is 1 for the decision about a change of a record:
-- those are never dropped to make room. AUTOINCREMENT: a number is never used again.
CREATE TABLE decisions (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    changed INTEGER NOT NULL,
    refused INTEGER NOT NULL,
    device  TEXT,
    address TEXT,
    body    TEXT    NOT NULL
) STRICT;

CREATE INDEX decisions_by_device ON decisions (device) WHERE device IS NOT NULL;
CREATE INDEX decisions_by_address ON decisions (address) WHERE address IS NOT NULL;
CREATE INDEX decisions_refused ON decisions (number) WHERE refused = 1;
CREATE INDEX decisions_bounded ON decisions (number) WHERE changed = 0;
