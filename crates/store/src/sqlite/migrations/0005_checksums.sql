-- CRC32C of a record and its key; NULL in one that an earlier build wrote last.
ALTER TABLE records ADD COLUMN crc INTEGER;

-- What the registry remembers of the journal and of the folder of uploads, as JSON: which ones belong to it, and how far they
-- had come. Without a row nothing is remembered yet.
CREATE TABLE IF NOT EXISTS belongings (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    body TEXT NOT NULL
) STRICT;
