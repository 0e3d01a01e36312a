-- Only what has a parent is in it: the children of an edge device are found without looking at the others.
CREATE INDEX devices_by_parent ON records (json_extract(body, '$.parentScopes[0]'), owner)
WHERE kind = 1 AND json_extract(body, '$.parentScopes[0]') IS NOT NULL;
