CREATE TABLE t (a INT);
source other.sql
