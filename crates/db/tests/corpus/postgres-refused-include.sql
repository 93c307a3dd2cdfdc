CREATE TABLE t (a INT);
\i other.sql
