CREATE TABLE t (a INT);
.import x.csv t
