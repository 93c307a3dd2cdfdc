CREATE TABLE t (a INT);
\! touch hacked
