Tables that follow each write by a trigger, an index of each kind on them, and queries that give the places at which an
index and its table do not say the same: a row each, so none when all is well. A query reads index and table at one moment.
What stands behind a heading is one statement; the heading says what it is for.

-- make the tables: routes
CREATE TABLE routes (id INTEGER PRIMARY KEY, prefix TEXT, via INTEGER, name TEXT)

-- make the tables: rules
CREATE TABLE rules (id INTEGER PRIMARY KEY, source TEXT, destination TEXT, protocol TEXT, ports TEXT, priority INTEGER, action TEXT, enabled INTEGER)

-- make the tables: addresses of peers
CREATE TABLE addresses (id INTEGER PRIMARY KEY, peer INTEGER, address TEXT)

-- make the tables: labels of peers
CREATE TABLE labels (id INTEGER PRIMARY KEY, peer INTEGER, label TEXT)

-- make the tables: what a write does to them
CREATE TRIGGER follow AFTER INSERT ON log WHEN new.part = 0 BEGIN
  INSERT OR REPLACE INTO routes VALUES (new.client * 1000 + new.n % 40,
    CASE new.n % 5 WHEN 0 THEN printf('10.%d.0.0/16', new.client) WHEN 1 THEN printf('10.%d.%d.0/24', new.client, new.n % 8)
      WHEN 2 THEN printf('10.%d.%d.%d', new.client, new.n % 8, new.n % 200) WHEN 3 THEN printf('fd00:%x::%x00/120', new.client, new.n % 8) END,
    new.n % 5, substr('abc', 1 + new.n % 3, 1));
  UPDATE routes SET via = via + 1 WHERE id = new.client * 1000 + new.n * 3 % 40;
  DELETE FROM routes WHERE id = new.client * 1000 + new.n * 7 % 40 AND new.n % 3 = 0;
  INSERT OR REPLACE INTO addresses VALUES (new.client * 10 + new.n % 4, new.client * 10 + new.n % 4,
    printf('100.64.%d.%d', new.client, new.n % 4 * 60 + new.n % 60));
  INSERT OR REPLACE INTO labels VALUES (new.client * 10 + new.n % 4, new.client * 10 + new.n % 4, 'tag:' || substr('abc', 1 + new.n / 4 % 3, 1));
  INSERT OR REPLACE INTO rules SELECT new.client * 1000 + new.n % 16,
    CASE h % 6 WHEN 0 THEN '*' WHEN 1 THEN 'tag:a' WHEN 2 THEN 'tag:b' WHEN 3 THEN 'tag:c' ELSE printf('100.64.%d.%d', new.client, new.n % 4 * 60 + new.n % 60) END,
    CASE h / 6 % 5 WHEN 0 THEN '*' WHEN 1 THEN 'tag:b' WHEN 2 THEN 'tag:c' ELSE printf('100.64.%d.%d', h % 8, h % 4 * 60 + h % 60) END,
    CASE h / 30 % 4 WHEN 0 THEN 'tcp' WHEN 1 THEN 'udp' END, CASE h / 120 % 2 WHEN 0 THEN '80' END,
    h / 240 % 5, CASE h / 1200 % 3 WHEN 0 THEN 'deny' ELSE 'allow' END, h % 7 <> 0
    FROM (SELECT (new.n * 7919 + new.client * 104729) % 100003 AS h);
  DELETE FROM rules WHERE id = new.client * 1000 + new.n * 5 % 16 AND new.n % 4 = 0;
END

-- index routes_by_prefix
CREATE INDEX IF NOT EXISTS routes_by_prefix ON routes USING cidr(prefix)

-- index routes_by_bits
CREATE INDEX IF NOT EXISTS routes_by_bits ON routes USING bitmap(via, name)

-- index rules_that_decide
CREATE INDEX IF NOT EXISTS rules_that_decide ON rules USING acl(source, destination, protocol, ports, priority, action, enabled)
WITH (peers = addresses, labels = labels)

-- compare routes_by_prefix: all prefixes that hold an address
WITH asked(address) AS (SELECT DISTINCT substr(prefix || '/', 1, instr(prefix || '/', '/') - 1) FROM routes WHERE id % 5 = 0 AND prefix NOT NULL)
SELECT address,
  (SELECT coalesce(group_concat(id), '') FROM (SELECT id FROM cidr_matches('routes_by_prefix', address) ORDER BY id)) AS found,
  (SELECT coalesce(group_concat(id), '') FROM (SELECT id FROM routes WHERE cidr_contains(prefix, address) ORDER BY id)) AS held
FROM asked WHERE found <> held

-- compare routes_by_prefix: the longest prefix that holds an address
WITH asked(address) AS (SELECT DISTINCT substr(prefix || '/', 1, instr(prefix || '/', '/') - 1) FROM routes WHERE id % 5 = 1 AND prefix NOT NULL),
  routed AS (SELECT id, prefix, CAST(substr(cidr_normalize(prefix), instr(cidr_normalize(prefix), '/') + 1) AS INTEGER) AS length FROM routes WHERE prefix NOT NULL),
  best AS MATERIALIZED (SELECT address, id FROM (SELECT address, id, rank() OVER (PARTITION BY address ORDER BY length DESC) AS place
    FROM asked, routed WHERE cidr_contains(prefix, address)) WHERE place = 1)
SELECT address,
  (SELECT coalesce(group_concat(id), '') FROM (SELECT id FROM cidr_lookup('routes_by_prefix', asked.address) ORDER BY id)) AS found,
  (SELECT coalesce(group_concat(id), '') FROM (SELECT id FROM best WHERE best.address = asked.address ORDER BY id)) AS held
FROM asked WHERE found <> held

-- compare routes_by_bits
WITH asked(via) AS (VALUES (0), (1), (2), (3), (4), (5)), names(name) AS (VALUES ('a'), ('b'), ('c'))
SELECT via, name,
  (SELECT coalesce(group_concat(id), '') FROM bitmap_rows('routes_by_bits', printf('via = %d AND NOT name = ''%s''', asked.via, names.name))) AS found,
  (SELECT coalesce(group_concat(id), '') FROM (SELECT id FROM routes r WHERE r.via = asked.via AND NOT r.name = names.name ORDER BY id)) AS held
FROM asked, names WHERE found <> held

-- compare rules_that_decide
WITH peers AS (SELECT peer FROM addresses UNION SELECT peer FROM labels), ports(port) AS (VALUES (80), (443)),
  names AS (SELECT peer, label AS name FROM labels UNION ALL SELECT peer, address FROM addresses UNION ALL SELECT peer, '*' FROM peers)
SELECT s.peer AS source, d.peer AS destination, port,
  acl_decide('rules_that_decide', s.peer, d.peer, 6, port) AS found,
  coalesce((SELECT action = 'allow' FROM rules r WHERE enabled AND (protocol IS NULL OR protocol = 'tcp')
    AND (ports IS NULL OR ports = CAST(port AS TEXT))
    AND EXISTS (SELECT 1 FROM names WHERE peer = s.peer AND name = r.source)
    AND EXISTS (SELECT 1 FROM names WHERE peer = d.peer AND name = r.destination)
    ORDER BY priority DESC, action = 'allow', id LIMIT 1), 0) AS held
FROM peers s, peers d, ports WHERE s.peer <> d.peer AND (s.peer + d.peer) % 4 = 1 AND found <> held
