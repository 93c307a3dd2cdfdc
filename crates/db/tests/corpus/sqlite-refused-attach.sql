CREATE TABLE t (a INT);
ATTACH 'other.db' AS o;
