-- What a database does: a bulk insert, an index, transactions (one rolled back), groups, a join, VACUUM.
PRAGMA journal_mode=DELETE;
CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, x REAL);
WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<20000)
  INSERT INTO t SELECT n, printf('row-%06d', (n*7919)%20011), n*0.37 - 1e3/n FROM c;
CREATE INDEX by_name ON t(name);
SELECT count(*), printf('%.9f',sum(x)), min(name), max(name) FROM t;
BEGIN; UPDATE t SET x = x*2 WHERE id%3=0; DELETE FROM t WHERE id%7=0; ROLLBACK;
BEGIN; UPDATE t SET x = x*2 WHERE id%3=0; DELETE FROM t WHERE id%7=0; COMMIT;
SELECT substr(name,1,5), count(*), printf('%.9f',sum(x)) FROM t GROUP BY 1 ORDER BY 1;
SELECT a.name, b.id FROM t a JOIN t b ON b.id = a.id*3 WHERE a.id%1000=1 ORDER BY 1;
VACUUM;
PRAGMA integrity_check;
